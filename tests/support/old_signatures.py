"""The public functions, classes, methods and properties of `ai-preflight` 0.3.0, as its scripts call them; data only.

Read off the released package by `inspect.signature`, without annotations. A default that is no literal stands as its `repr`.
"""

from collections.abc import Mapping

PROPERTY = "property"

OLD: Mapping[str, str] = {
    "budget.BudgetTracker": "(api_key, limit_usd, poll_interval_s=30.0, mode='simple', on_exceeded=None)",
    "budget.BudgetTracker.exceeded": PROPERTY,
    "budget.BudgetTracker.inject_to_docker": (
        "(self, container_name, workspace_path='/workspace/output', timeout_s=5.0)"
    ),
    "budget.BudgetTracker.on_tool_end": "(self, tool_name)",
    "budget.BudgetTracker.on_tool_start": "(self, tool_name)",
    "budget.BudgetTracker.poll": "(self, force=False)",
    "budget.BudgetTracker.status_message": "(self, force_poll=False)",
    "cache_report.generate_cache_report": "(run_dir)",
    "cache_report.latest_run": "(runs_dir=PosixPath('runs'))",
    "cache_report.main": "(run_id=None, runs_dir=PosixPath('runs'))",
    "caching.CacheMetrics": "()",
    "caching.CacheMetrics.estimated_savings_usd": "(self, prompt_cost_per_m, cache_discount=0.5)",
    "caching.CacheMetrics.hit_rate": PROPERTY,
    "caching.CacheMetrics.record": "(self, usage)",
    "caching.CacheMetrics.request_hit_rate": PROPERTY,
    "caching.CacheMetrics.summary": "(self)",
    "caching.CacheMetrics.to_dict": "(self)",
    "caching.PromptBuilder": (
        "(system, tools=None, environment=None, provider='auto', anthropic_mode='explicit', cache_ttl=None)"
    ),
    "caching.PromptBuilder.add_assistant": "(self, content)",
    "caching.PromptBuilder.add_message": "(self, message)",
    "caching.PromptBuilder.add_tool_result": "(self, tool_call_id, content)",
    "caching.PromptBuilder.add_user": "(self, content)",
    "caching.PromptBuilder.build": "(self, model, max_tokens=None, **extra)",
    "caching.PromptBuilder.openai_cache_params": "(retention='in_memory')",
    "caching.PromptBuilder.turn_count": PROPERTY,
    "caching.detect_provider": "(model_id)",
    "caching.format_cache_report": "(metrics, model_id='')",
    "caching.min_cache_tokens": "(model_id)",
    "caching.stable_system_prompt": "(*sections)",
    "docker.build_image": "(image_name, dockerfile='Dockerfile', context='.')",
    "docker.image_exists": "(image_name)",
    "docker.remove_container": "(name)",
    "docker.run_container": (
        "(*, image_name, model_id, alias, admin_key, budget_usd, run_dir, run_id, env=None, mounts=None, "
        "initial_prompt=None, container_args=None, eject_policy=None, on_event=None, budget_mode='simple', "
        "workspace_path='/workspace/output', idle_timeout_s=300.0, log_fn=None)"
    ),
    "eject.BudgetExceededEject": "()",
    "eject.BudgetExceededEject.check": "(self, *, budget_status, **_kwargs)",
    "eject.BudgetFractionEject": "(check_after_pct=0.2, progress_fn=None)",
    "eject.BudgetFractionEject.check": "(self, *, budget_status, context, **_kwargs)",
    "eject.CompositeEject": "(policies)",
    "eject.CompositeEject.check": "(self, **kwargs)",
    "eject.EjectPolicy": "()",
    "eject.EjectPolicy.check": "(self, *, elapsed_s, budget_status, events, context)",
    "eject.IdleTimeoutEject": "(timeout_s=300.0)",
    "eject.IdleTimeoutEject.check": "(self, *, events, **_kwargs)",
    "eject.default_eject_policies": "(idle_timeout_s=300.0)",
    "events.EventLogger": "(path, *, start_time=None, include_elapsed_s=True)",
    "events.EventLogger.close": "(self)",
    "events.EventLogger.log": "(self, event_type, **kwargs)",
    "events.EventLogger.read": "(path)",
    "health.InfraCheck": "()",
    "health.InfraCheck.check": "(self)",
    "health.InfraCheck.name": PROPERTY,
    "health.docker_health": "(container, *, name=None, hint='')",
    "health.env_vars": "(*names, name='Env vars', hint='')",
    "health.git_version": "(repo_path, *, min_tag=None, name=None, hint='')",
    "health.http_health": "(url, *, name=None, require=None, min_version=None, timeout=5.0, hint='')",
    "models.BudgetStatus": "(used, limit)",
    "models.BudgetStatus.exceeded": PROPERTY,
    "models.BudgetStatus.format_simple": "(self)",
    "models.BudgetStatus.pct_spent": PROPERTY,
    "models.BudgetStatus.remaining": PROPERTY,
    "models.CacheStats": (
        "(total_prompt_tokens=0, cached_tokens=0, cache_creation_tokens=0, request_count=0, cache_hit_requests=0)"
    ),
    "models.CacheStats.hit_rate": PROPERTY,
    "models.CacheStats.to_dict": "(self)",
    "models.EjectDecision": "(should_eject, reason='')",
    "models.InfraResult": "(ok, detail='', hint='')",
    "models.RunResult": (
        "(alias, model_id, budget_usd, started_at='', finished_at='', duration_s=0, cost_usd=None, error=None, "
        "tool_calls=0, events_count=0, output=FACTORY, cache=FACTORY)"
    ),
    "models.RunResult.ok": PROPERTY,
    "models.RunResult.to_dict": "(self)",
    "preflight.PreflightError": "(failures)",
    "preflight.preflight": (
        "(admin_key, or_key, models, budget_per_model, checks=None, docker_image=None, custom_checks=None, "
        "required_params=None, common_required_params=None, site_name='agent-preflight', raise_on_failure=True, "
        "infra=None)"
    ),
    "provision.delete_key": "(admin_key, key_hash)",
    "provision.get_account_balance": "(api_key)",
    "provision.get_available_models": "(api_key)",
    "provision.get_available_models_or_empty": "(api_key)",
    "provision.get_usage": "(api_key)",
    "provision.provision_key": "(admin_key, label, limit_usd)",
    "provision.provision_key_full": "(admin_key, label, limit_usd)",
    "runner.run_multi": (
        "(models, *, image_name, admin_key, or_key, budget_usd, runs_dir=PosixPath('runs'), run_id=None, env=None, "
        "mounts=None, initial_prompt=None, container_args=None, eject_policy=None, on_event=None, "
        "on_complete=None, budget_mode='simple', idle_timeout_s=300.0, parallel=True, max_workers=8, "
        "skip_preflight=False, preflight_kwargs=None)"
    ),
    "runner.run_single": (
        "(model_id, *, image_name, admin_key, or_key, budget_usd=0.1, alias=None, extra_models=None, "
        "runs_dir=PosixPath('runs'), run_id=None, **kwargs)"
    ),
    "status.container_running": "(alias)",
    "status.latest_run": "(runs_dir=PosixPath('runs'))",
    "status.main": "(run_id=None, runs_dir=PosixPath('runs'))",
    "status.print_status_table": "(run_dir)",
    "status.summarise_model": "(model_dir)",
    "utils.render_prompt": "(template_path, **variables)",
    "utils.summarize_run": "(run_dir)",
}
"""Module and name, to the signature; a method has its `self`."""
