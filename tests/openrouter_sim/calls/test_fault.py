"""The interface does nothing by itself."""

from openrouter_sim.calls.fault import Fault, Frame


def test_a_fault_without_hooks_changes_nothing() -> None:
    fault = Fault()
    frames = [Frame(b"a"), Frame(b"b", 3, settles=True)]
    assert fault.offer(()) == ()
    assert not fault.is_early
    assert not fault.is_endless
    assert [frame.cut for frame in frames] == [None, None]
