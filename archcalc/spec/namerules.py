"""What a name may be that a file gives: to a model, to a kind of layers or a branch, to a device, or name: a rule."""

MODEL = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
PART = r"^[a-z][a-z0-9_]{0,29}$"
DEVICE = r"^[a-z0-9][a-z0-9.-]*$"
RULE = r"^AC[0-9]{3}$"
RULES = r"^AC[0-9]{0,3}$"

IN_WORDS = {
    MODEL: "must be letters, digits, '.', '_' and '-', and begin with a letter or a digit",
    PART: "must be at most 30 small letters, digits and '_', and begin with a letter",
    DEVICE: "must be small letters, digits, '.' and '-', and begin with a letter or a digit",
    RULE: "must be AC and three digits, such as AC101",
    RULES: "must be an identifier such as AC101, or how several begin, such as AC1",
}
"""The same rules as a message says them."""
