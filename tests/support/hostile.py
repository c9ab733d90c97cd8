"""What a hostile agent may print or call itself, where a page or a terminal shows it: scripts, markup, escapes, odd text."""

HOSTILE = (
    "</script><script>window.hacked = 1</script>",
    '"><img src=x onerror="window.hacked = 2">',
    "'><svg onload='window.hacked = 3'>",
    "javascript:window.hacked = 4",
    "{{7*7}}{% for x in y %}",
    "&#x3c;img src=x onerror=window.hacked=5&#x3e;",
    "</section></main><h1>forged</h1>",
    "\u202egnirts desrever\u202c\u2066",
    "nul\x00 and \x1b[31mred\x1b[0m \x1b]8;;https://evil.example\x07link\x1b]8;;\x07",
    "\U0001f600 \ufffe",
    "x" * 100_000,
)
