"""Names of metrics: in PromQL expressions, and in the sources."""

import re

from deploy.tests.containerfile import ROOT

WORDS = {"and", "or", "unless", "by", "on", "without", "ignoring", "group_left", "group_right", "offset", "bool", "le", "inf", "nan"}


def metrics(expression):
    """The metrics that an expression names."""
    text = re.sub(r'"[^"]*"', "", expression)
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", text)
    text = re.sub(r"\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", "", text)
    # A name before a parenthesis is a function; the unit of a duration follows its number.
    names = re.findall(r"(?<![\w:$])([a-zA-Z_:][\w:]*)(?!\s*\()(?![\w:])", text)
    return {name for name in names if name not in WORDS}


def exported():
    """The metrics that the sources register, with the suffixes of histograms."""
    names = set()
    for file in (ROOT / "src").rglob("*.rs"):
        names |= set(re.findall(r'"((?:keygate|talos|http|process|target)_[a-z_]+)"', file.read_text()))
    return names | {name + suffix for name in names for suffix in ("_bucket", "_sum", "_count")}
