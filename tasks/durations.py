"""Durations as a person says them."""


def spoken_duration(duration_s: float) -> str:
    """Seconds as a person says them: "0.5 s", "48 s", "4 min 12 s", "2 h 5 min"."""
    if duration_s < 9.95:
        return f"{duration_s:.1f} s"
    whole = round(duration_s)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"
