"""How an amount of money is written, in sentences and in documents. What things cost is told by workspace/estimates."""


def usd(amount: float | None) -> str:
    """An amount of money for people; a dash when it is not known. What was paid is never shown as nothing."""
    if amount is None:
        return "-"
    return "<$0.0001" if 0 < amount < 0.00005 else f"${amount:,.4f}"


def rounded_usd(amount: float | None) -> float | None:
    """Money in a document: to a ten-thousandth of a cent, because single texts cost less than a cent."""
    return None if amount is None else round(amount, 6)
