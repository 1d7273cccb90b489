"""Code points as tables of C++, for the scripts that write them."""

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def ranges(points: list[int]) -> list[tuple[int, int]]:
    """(first, last) of each run of neighbours."""
    out: list[list[int]] = []
    for point in points:
        if out and out[-1][1] == point - 1:
            out[-1][1] = point
        else:
            out.append([point, point])
    return [tuple(pair) for pair in out]


def lines(items: list[str]) -> list[str]:
    """The items one after the other, on lines that are not too long."""
    out, line = [], ""
    for item in items:
        if len(line) + len(item) > 117:
            out.append(line.rstrip())
            line = ""
        line += item + " "
    return out + ([line.rstrip()] if line else [])


def table(name: str, points: list[int]) -> list[str]:
    return [f"constexpr CodePointRange {name}[] = {{", *lines([f"{{0x{a:X},0x{b:X}}}," for a, b in ranges(points)]), "};"]
