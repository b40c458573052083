"""The words of a caption or a prompt."""


def words_of(text: str) -> list[str]:
    """Runs of letters and digits, in small letters, in order."""
    return "".join(character if character.isalnum() else " " for character in text.lower()).split()
