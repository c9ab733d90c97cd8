"""Two models, one image, one cent each."""

from agent_preflight import run_multi

if __name__ == "__main__":
    results = run_multi(
        models=["openai/gpt-4.1-nano=nano", "deepseek/deepseek-chat-v3.1=deepseek"],
        image_name="my-agent",
        budget_usd=0.01,
        container_args=["Name three uses of a ledger."],
        network="sealed",
    )
    for result in results:
        print(f"{result.alias}: {result.error or 'ok'}, ${result.preflight['posted_usd']}")
