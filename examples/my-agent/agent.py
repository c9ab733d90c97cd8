import json, os, sys, urllib.request

url = os.environ["OPENROUTER_BASE_URL"] + "/chat/completions"
headers = {"Authorization": "Bearer " + os.environ["OPENROUTER_API_KEY"], "Content-Type": "application/json"}
body = {"model": os.environ["PREFLIGHT_MODEL"], "messages": [{"role": "user", "content": sys.argv[1]}]}
request = urllib.request.Request(url, json.dumps(body).encode(), headers)
reply = json.load(urllib.request.urlopen(request))
with open("/workspace/output/answer.md", "w") as file:
    file.write(reply["choices"][0]["message"]["content"] + "\n")
print("the answer is written")
