"""Tables in Markdown and numbers in words, for table.py and roofline.py."""


def table(heads, rows):
    """Lines of a table; a head that begins with `>` has its column on the right."""
    rows = [[str(cell) for cell in row] for row in rows]
    names = [head.removeprefix(">") for head in heads]
    widths = [max(3, len(name), *(len(row[i]) for row in rows)) if rows else len(name) for i, name in enumerate(names)]
    right = [head.startswith(">") for head in heads]
    pad = lambda cells: [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right)]
    rules = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right)]
    return ["| " + " | ".join(cells) + " |" for cells in (pad(names), rules, *map(pad, rows))]


def figure(value, digits=3, unit=""):
    """A number with so many significant digits, without exponent; `-` for none."""
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}{unit}"
    text = f"{value:.{digits}g}"
    if "e" in text:
        text = f"{value:.6f}"
    missing = digits - len(text.replace(".", "").replace("-", "").lstrip("0"))
    return text + ("" if missing <= 0 else ("" if "." in text else ".") + "0" * missing) + unit


def times(ratio):
    return "-" if ratio is None else f"{ratio:.2f}"


def percent(share):
    return "-" if share is None else f"{100 * share:.0f} %"
