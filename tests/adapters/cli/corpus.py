"""Texts that would be markup, terminal escapes or lines of their own where somebody prints them as they are."""

FORGED = "2026-11-24 20:59:00,000 INFO actionbus: delete_all succeeded"
HOSTILE = [
    r"x\[/boom] y",
    "[red]red[/red]",
    r"\[link=http://evil.example]c[/link]",
    r"\\[/boom]",
    "[/]",
    "[bold",
    ":smile:",
    "a\x1b[2Jb",
    "\x1b]0;pwned\x07",
    f"one\n{FORGED}",
    f"one\r{FORGED}",
    f"one\u2028{FORGED}",
    f"one\x85{FORGED}",
    "\x9b31m",
    "\x7f\x08",
    "\u202egnp.exe",
    "\u2066\u200f",
    "\ue000",
    "{0} %s $HOME",
]
WORST = " ".join(HOSTILE)
