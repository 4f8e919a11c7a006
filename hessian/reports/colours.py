"""The two colour schemes of a report."""

from __future__ import annotations

COLOURS = {  # name: on light, on dark. Text stands out 4.5 to 1 from what lies behind it, as the tests measure in a browser.
    "ink": ("#1c1c21", "#ececf0"),
    "soft": ("#5b5b66", "#a9a9b6"),
    "paper": ("#ffffff", "#17181c"),
    "tint": ("#f5f5f3", "#202127"),
    "rule": ("#dcdcd8", "#3a3b44"),
    "good": ("#009e73", "#2dbd92"),
    "limit": ("#d55e00", "#ff8b45"),
    "first": ("#0072b2", "#56b4e9"),
    "second": ("#cc79a7", "#e3a0c6"),
    "fourth": ("#e69f00", "#f0b429"),
    "trained": ("#882255", "#e57fae"),
    "broken": ("#b4b4ae", "#747580"),
    "mark": ("#444444", "#bdbdc8"),
}
OF_PICTURES = {light: name for name, (light, _) in COLOURS.items()} | {"#000000": "ink", "#888888": "broken"}
DARK_PAGES = ('[data-jp-theme-light="false"]', ".vscode-dark", ".vscode-high-contrast")  # what notebooks set, whatever the system prefers
LIGHT_PAGES = ('[data-jp-theme-light="true"]', ".vscode-light")


def variables(scheme: int) -> str:
    """One scheme as declarations: 0 is light, 1 is dark."""
    return "".join(f"--lrf-{name}:{pair[scheme]};" for name, pair in COLOURS.items()) + f"color-scheme:{('light', 'dark')[scheme]}"


def schemes(place: str = ".lrf") -> str:
    """CSS that follows the reader's preference, the theme of a notebook, and always takes light to print; ``place`` gets the colours."""
    light, dark = variables(0), variables(1)
    return (
        f"{place}{{{light}}}\n@media (prefers-color-scheme:dark){{{place}{{{dark}}}}}\n"
        f"{','.join(f'{page} .lrf' for page in LIGHT_PAGES)}{{{light}}}\n"
        f"{','.join(f'{page} .lrf' for page in DARK_PAGES)}{{{dark}}}\n"
        f"@media print{{{place * 3}{{{light}}}}}\n"
    )


def as_variable(colour: str) -> str:
    """A picture's colour as the page's own, or as it is."""
    name = OF_PICTURES.get(colour.lower())
    return colour if name is None else f"var(--lrf-{name},{colour.lower()})"
