"""Python files of any length for repositories in tests."""


def function(name: str, lines: int, *, argument: str = "value") -> str:
    """A function of about so many lines."""
    body = "".join(f"    total += {name}_step({argument}, {number})\n" for number in range(lines))
    return (
        f"def {name}({argument}):\n    '''Compute {name} step by step.'''\n    total = 0\n{body}    return total\n\n\n"
    )


def many_files(count: int, lines: int = 20) -> dict[str, bytes | str]:
    """So many files with eight functions each."""
    return {
        f"m{number:03}.py": "".join(function(f"work_{number}_{part}", lines) for part in range(8))
        for number in range(count)
    }
