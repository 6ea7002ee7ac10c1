"""x"""


class OtherMethods:
    """x"""
