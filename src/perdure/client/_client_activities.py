"""x"""


class ActivityMethods:
    """x"""
