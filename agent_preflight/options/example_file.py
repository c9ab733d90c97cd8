"""The commented `preflight.toml` that `agent-preflight init` writes.

Every key that a run knows is in it: the few that a run needs are set, the others stand as comments with their defaults, so that
taking a `#` away makes one count.
"""

TEMPLATE = """\
# What `agent-preflight run` does in this folder. An option on the command line wins over a variable of the environment, that
# over this file, that over the default. Keys to money never stand here: they come from OR_ADMIN_KEY and OPENROUTER_API_KEY.
# Lines that begin with a `#` and no blank are keys with their defaults, or with an example where there is no default.

# The field: one agent for each model. "ID" or "ID=ALIAS".
models = [
    "openai/gpt-4.1-nano=nano",
    "anthropic/claude-haiku-4.5=haiku",
]

# Dollars for each agent. No call leaves whose worst case does not fit.
budget = 0.25

# The agents' image. It must be on this machine: nothing is ever pulled.
image = "my-agent"

# What follows the image, for every agent; the model's id is in PREFLIGHT_MODEL.
#arguments = ["--fast"]

# Where agents run: "docker", or "process" for programs that you trust, started by `command`.
#sandbox = "docker"
#command = ["python3", "agent.py"]

# Sent to each agent on its standard input as one JSON line; from a file, taken from this folder.
#prompt = "Solve the task in /task."
# prompt_file = "prompt.txt"       instead of `prompt`
# Tokens of an agent's first prompt: the checks then say how many calls the budget affords, and fail if it is none.
#expect_tokens = 20000
# Standard input: "open" keeps it open, "close" ends it at the start; "auto" is "open" with a prompt, "close" without.
#stdin = "auto"

# Network: "sealed" is the proxy and nothing else; "bridge" or a Docker network's name is that besides.
#network = "sealed"
# Places that a sealed agent reaches through an HTTP proxy.
#egress = ["pypi.org:443"]

# Files of this machine in the container: "HOST:CONTAINER" or "HOST:CONTAINER:ro", or a table. "./" is this folder.
#mounts = ["./task:/task:ro", { source = "./data", target = "/data", mode = "ro" }]
# Directory in the container that gets budget.txt.
#workspace_path = "/workspace/output"
# What agents wrote is copied into the run's folder when they have ended: of workspace_path, or of another folder, within limits.
#keep_output = true
#output_path = "/workspace/output"
#output_timeout_s = 60
#output_max_bytes = "1g"
#output_max_files = 20000
#output_max_depth = 32
# Names of variables that agents get as they are set here, so that their values need not stand in this file.
#pass_env = ["HF_TOKEN"]
# Files of NAME=VALUE lines for the agents, taken from this file's folder.
#env_file = [".env"]

# Limits of a container, in the engine's words; none if left out. Other options of the engine, of those that are allowed.
#memory = "2g"
#cpus = 1.5
#docker_args = ["--shm-size=256m"]
# How a container reaches the proxy: "shared" over a unix socket, "portable" over TCP, "auto" by what works here.
#gate = "auto"

# Time: a trial is ejected after timeout_s (never, if left out), and after idle_timeout_s without a sign of life.
#timeout_s = 3600
#idle_timeout_s = 300

# How many trials go on at once; parallel = false is one after another.
#parallel = true
#max_workers = 8

# "detailed" lists the latest actions in budget.txt.
#budget_mode = "simple"

# Where runs are kept, taken from the folder that the command is started in.
#runs_dir = "runs"

# OpenRouter's API base, if OPENROUTER_BASE_URL does not name it.
#openrouter_base_url = "https://openrouter.ai/api/v1"

# Calls may run on provider keys that your OpenRouter account holds (BYOK); else an endpoint that does so is used no more.
#byok = false

# Start without checks.
#skip_preflight = false

# Variables for the agents.
#[env]
#TASK = "underwriting"

# Services that agents reach by name, sealed or not: here http://los:3000.
#[services]
#los = "127.0.0.1:3000"

# The checks before the run; the usual ones if `checks` is left out.
#[preflight]
#checks = ["balance", "math", "models", "key_smoke", "cache_smoke", "docker_image"]
#models = ["openai/gpt-4.1-mini"]
#common_required_params = ["tools"]
#required_params = { "openai/gpt-4.1-nano" = ["tools"] }
#site_name = "agent-preflight"

# What a run stands on besides; check is "http_health", "env_vars", "docker_health" or "git_version".
#[[preflight.infra]]
#check = "http_health"
#url = "http://127.0.0.1:3000/health"
#name = "loan office"
#require = { status = "ready" }
#min_version = "2.0.0"
#timeout_s = 5
#hint = "start the service first"

#[[preflight.infra]]
#check = "env_vars"
#names = ["HF_TOKEN"]

#[[preflight.infra]]
#check = "docker_health"
#container = "postgres"

#[[preflight.infra]]
#check = "git_version"
#path = "."
#min_tag = "v1.0.0"

# What ends a trial early. With any of these the two usual ones, budget_exceeded and idle_timeout, must be named too if they
# are wanted. `progress` is "tool_calls" or a function of yours, "MODULE:FUNCTION". The hard budget depends on none of them.
#[[policies]]
#policy = "budget_exceeded"

#[[policies]]
#policy = "idle_timeout"
#timeout_s = 300

#[[policies]]
#policy = "stall"
#threshold = 5

#[[policies]]
#policy = "budget_fraction"
#check_after_pct = 0.2
#progress = "tool_calls"

#[[policies]]
#policy = "progress"
#window_usd = 0.05
#progress = "tool_calls"
"""


def uncommented(template: str = TEMPLATE) -> str:
    """Return the template with every key in force, as it must parse too."""
    lines = (line[1:] if line[:1] == "#" and line[1:2] not in (" ", "") else line for line in template.splitlines())
    return "\n".join(lines) + "\n"
