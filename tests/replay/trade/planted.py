"""What is planted into the idioms: bugs, each with what it makes other, and changes that harm nothing."""

from __future__ import annotations

from typing import Final

Change = tuple[str, str]

BUGS: Final[dict[str, tuple[str, Change, str]]] = {
    "other number": ("enlist", ("1900 + h", "1901 + h"), r"persons\[\d+\]\.born"),
    "other text": ("enlist", ("name=h.args.word", "name=h.args.word * 2"), r"parties\[\d+\]\.name"),
    "other result": ("enlist", ("made.state.upper()", "made.state"), r"result\[1\]"),
    "other rounding": ("found_company", ("/ 3", "/ 4"), r"companies\[\d+\]\.capital"),
    "missing link": ("found_company", ("made.words.append(", "str("), r"(party_tags|tags)\[[\d,]+\]"),
    "other kind": ("enlist_returning", ('kind="party"', 'kind="company"'), r"parties\[\d+\]\.kind"),
    "off by one in RETURNING": ("enlist_orm_returning", ("{k}", "{k + 1}"), r"notes\[\d+\]\.body"),
    "one row less": ("enlist_many", ("% 5 + 2", "% 5 + 1"), r"notes\[\d+\]"),
    "other interval": ("enlist_many", ("minutes=", "seconds="), r"notes\[\d+\]\.after"),
    "one of equal rows less": ("equal_rows", ('"p", "q", "p", "p"', '"p", "q", "p"'), r"jobs\[\d+\]"),
    "one of equal rows more": ("equal_rows", ('"p", "q", "p", "p"', '"p", "q", "p", "p", "p"'), r"jobs\[2000000\d+\]"),
    "other bulk": ("bulk_save", ("mapped too", "mapped two"), r"jobs\[\d+\]\.what"),
    "other raw value": ("raw_insert", ("raw {h.args.word} {k}", "raw {k}"), r"jobs\[\d+\]\.what"),
    "other raw text": ("mixed_insert", ("'raw'", "'row'"), r"jobs\[\d+\]\.what"),
    "other INSERT … SELECT": ("insert_select", ('f" {h.args.word}"', 'f"-{h.args.word}"'), r"notes\[\d+\]\.body"),
    "fewer rows by INSERT … SELECT": ("insert_select", ("limit(3)", "limit(1)"), r"notes\[\d+\]"),
    "other function": ("insert_expressions", ("func.upper", "func.lower"), r"notes\[\d+\]\.body"),
    "other update": ("touch", ('f"{h.args.word} {h.args.n}"', 'f"{h.args.word}-{h.args.n}"'), r"parties\[\d+\]\.name"),
    "other sign": ("touch_core", ("Order.total + ", "Order.total - "), r"orders\[\d+\]\.total"),
    "other value returned": ("touch_returning", ("state=h.args.word", 'state="x"'), r"parties\[\d+\]\.state"),
    "fewer updates": ("touch_many", ("limit(3)", "limit(2)"), r"jobs\[\d+\]"),
    "1 for 1.0 in JSON": ("keep_time", ("[1, 1.0, None]", "[1, 1, None]"), r"settings\[.*\]\.items"),
    "None left out of JSON": ("keep_time", ("1.0, None]", "1.0]"), r"settings\[.*\]\.items"),
    "counted twice": ("onupdate_python", ("n=counters.c.n + 1", "n=counters.c.n + 2"), r"counters\[c\d\]\.n"),
    "other upsert": ("count", ("counters.c.n + given", "counters.c.n - given"), r"counters\[c\d\]\.n"),
    "other word beside conflicts": ("tag_some", ('Tag(f"{h.args.word} ', 'Tag(f"{h.args.word}-'), r"tags\[\d+\]\.word"),
    "other rows of an upsert": ("upsert_values", ("* 3 + k) % 40", "* 3 + k) % 41 + 50"), r"tags\[\d+\]"),
    "other after a savepoint": ("try_first", ("real {", "unreal {"), r"jobs\[\d+\]\.what"),
    "a lost row is kept": ("try_first", ("            raise LookupError\n", ""), r"(status|result|jobs)"),
    "upper case": ("get_or_create", ("made.word]", "made.word.upper()]"), r"result\[1\]"),
    "no error any more": ("break_rule", ("quantity=-h.args.n", "quantity=h.args.n + 1"), "status"),
    "other message": ("odd_error", ("{h.args.n}", "{h.args.n + 1}"), r"error\.message"),
    "other class": ("odd_error", ("ValueError", "TypeError"), r"error\.type"),
    "swallowed": ("missing", (".one().id", ".first()"), "status"),
    "other division": ("order", ("/ 7", "/ 8"), r"orders\[\d+\]\.total"),
    "other children": ("order", ("quantity=place + 1", "quantity=place + 2"), r"order_lines\[\d+,ware \d\]\.quantity"),
    "one child more": ("order", ("% 4 + 1", "% 4 + 2"), r"order_lines\[\d+,ware \d\]"),
    "other Enum": ("pay", ("State.PAID", "State.SENT"), r"orders\[\d+\]\.status"),
    "other row deleted": ("cancel", ("order_by(Order.id)", "order_by(Order.id.desc())"), r"orders\[\d+\]"),
    "other place": ("change_lines", ("place=9", "place=8"), r"order_lines\[\d+,new \w\]\.place"),
    "one link less": ("label", ('f"w{h.args.n % 30}", ', ""), r"party_tags\[\d+,\d+\]"),
    "other leaf": ("grow", ('"leaf"', '"leafs"'), r"nodes\[\d+\]\.name"),
    "one node less": ("grow", (', children=[Node(name="leaf")]', ""), r"nodes\[\d+\]"),
    "restocked too much": ("restock", ("found.quantity += 1", "found.quantity += 2"), r"stock\[ware \d\]\.quantity"),
    "logged once": (
        "restock",
        ("    h.session.flush()\n    found.quantity += 1", "    found.quantity += 1"),
        r"stock_log\[\d+\]",
    ),
    "other price": ("price", ('"1.1"', '"1.2"'), r"stock\[ware \d\]\.price"),
    "None left out of a list in JSON": ("configure", ("amount, None, 1.0", "amount, 1.0"), r"settings\[set \d\]\.data"),
    "other microsecond": ("remind", ("microseconds=5", "microseconds=6"), r"notes\[\d+\]\.after"),
    "other value without a key": ("measure", ("k % 2", "k % 2 + 5"), "readings"),
    "one more of equal rows without a key": ("measure", ("range(3)", "range(5)"), "readings"),
    "other raw update": ("by_hand", ("done_by = :w WHERE id", "done_by = :w || '!' WHERE id"), r"jobs\[\d+\]\.done_by"),
    "other chance": ("gamble", ("return h.random.random()", "return h.random.random() + 1"), "result"),
    "chance without the dependency": ("gamble", ("str(h.ids.uuid())", 'str(__import__("uuid").uuid4())'), "readings"),
    "other call": ("write_letter", ("number {", "no. {"), r"calls\[0\]\.kwargs\.text"),
    "no row after the call": ("write_letter", ("h.session.add(", "str("), r"notes\[\d+\]"),
    "other nested order": (
        "nest",
        (
            '"order", "write_letter" if h.args.n % 5 else "count"',
            '"write_letter" if h.args.n % 5 else "count", "order"',
        ),
        r"act: arguments\.idiom",
    ),
    "other number in a loop": ("set_of_actions", ("value=h.args.n", "value=h.args.n + 1"), "readings"),
    "clock of the process": (
        "keep_time",
        ("h.clock.now().isoformat()", "__import__('datetime').datetime.now(h.clock.now().tzinfo).isoformat()"),
        r"settings\[time \d\]\.data",
    ),
}

HARMLESS: Final[dict[str, tuple[str, *tuple[Change, ...]]]] = {
    "another flush": ("enlist", ("h.session.flush()\n", "h.session.flush()\n    h.session.flush()\n")),
    "another read": (
        "enlist",
        (
            "    h.session.add(made)\n",
            "    h.session.scalar(select(func.count()).select_from(Tag))\n    h.session.add(made)\n",
        ),
    ),
    "another name": ("enlist_returning", ("row", "line")),
    "added one by one": ("equal_rows", ("h.session.add_all(made)", "[h.session.add(each) for each in made]")),
    "flushed one by one": (
        "enlist_many",
        ("h.session.add_all(made)", "[(h.session.add(each), h.session.flush()) for each in made]"),
    ),
    "ORM instead of the bulk method": (
        "bulk_save",
        (
            'h.session.bulk_insert_mappings(Job, [{"what": "mapped"}, {"what": "mapped too"}])',
            'h.session.add_all([Job(what="mapped"), Job(what="mapped too")]); h.session.flush()',
        ),
    ),
    "in one statement": (
        "enlist_executemany",
        ('insert(Tag.__table__).values(word=bindparam("word")),', "insert(Tag.__table__),"),
    ),
    "ORM instead of Core": (
        "enlist_executemany",
        ('h.session.execute(\n        insert(Tag.__table__).values(word=bindparam("word")),\n', "h.session.add_all(\n"),
        ('{"word": f"{h.args.word} {h.ids.uuid()}"} for', 'Tag(f"{h.args.word} {h.ids.uuid()}") for'),
    ),
    "in a certain order": (
        "loose_order",
        ("h.session.add_all(made)", "h.session.add_all(sorted(made, key=lambda each: each.what, reverse=True))"),
    ),
    "updated in two steps": (
        "touch",
        ("    found.name =", '    found.name = "for now"\n    h.session.flush()\n    found.name ='),
    ),
    "updated to what it is": ("pay", ("    found.status =", "    found.total = found.total + 0\n    found.status =")),
    "a statement of text": (
        "by_hand",
        ("SELECT count(*) FROM jobs WHERE done_by = :w", "SELECT count(id) FROM jobs WHERE :w = done_by"),
    ),
    "keys in another order": (
        "order",
        (
            '"id": made.id,\n        "number": made.number,\n',
            '"number": made.number,\n        "id": made.id,\n',
        ),
    ),
    "deleted by Core": (
        "cancel",
        ("h.session.delete(found)", "h.session.execute(delete(Order).where(Order.id == found.id))"),
    ),
    "a sorted set": ("label", ("for word in {", "for word in sorted({"), ('11) % 30}"}', '11) % 30}"})')),
    "flushed by a query": (
        "take_word",
        ("h.session.flush()", "h.session.scalar(select(func.count()).select_from(Tag))"),
    ),
    "rows in another order": ("measure", ("for k in range(3)", "for k in reversed(range(3))")),
    "another way to load": ("read_all", ("joinedload(Party.tags)", "selectinload(Party.tags)")),
    "added together": ("configure", ("h.session.add(found)", "h.session.add_all([found])")),
    "computed by the database": ("onupdate_python", ("counters.c.n + 1", "1 + counters.c.n")),
    "a lock": ("touch_many", ("limit(3)", "limit(3).with_for_update()")),
    "a variable": (
        "write_letter",
        ("    h.session.add(Note(body=receipt,", "    body = receipt\n    h.session.add(Note(body=body,"),
    ),
    "a log line": (
        "remind",
        (
            "    h.session.add(made)",
            '    __import__("logging").getLogger("trade").debug("reminding")\n    h.session.add(made)',
        ),
    ),
    "a loop over a list": ("set_of_actions", ("in {f", "in [f"), ("range(5)}", "range(5)]")),
}
