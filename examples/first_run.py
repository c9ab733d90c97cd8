"""Two models, one image, one cent each."""

import os

from agent_preflight import run_multi

MODELS = [("openai/gpt-4.1-nano", "nano"), ("deepseek/deepseek-chat-v3.1", "deepseek")]

if __name__ == "__main__":
    results = run_multi(
        MODELS,
        image_name="my-agent",
        admin_key=os.environ["OR_ADMIN_KEY"],  # makes a sub-key for each trial
        or_key=os.environ["OPENROUTER_API_KEY"],  # pays for the checks before the run
        budget_usd=0.01,
        container_args={alias: ["thrifty", "--model", model] for model, alias in MODELS},
        network="sealed",
    )
    for result in results:
        ledger, bill = result.preflight["posted_usd"], result.preflight["key_usage_usd"]
        print(f"{result.alias}: {result.error or 'ok'}; our ledger says ${ledger}, OpenRouter's key ${bill}")
