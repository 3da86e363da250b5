"""Durations and moments as a person says them."""


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


def time_code(time_s: float) -> str:
    """A moment of a video as players show it: "0:07", "12:34", "1:02:03"; the second that it lies in."""
    minutes, second = divmod(int(time_s), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
