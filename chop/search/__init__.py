"""Search for the settings that the hardware wants: spaces, strategies, studies, results."""
