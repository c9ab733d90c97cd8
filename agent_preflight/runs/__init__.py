"""What a run is: its settings, declared once, and the sources that they are read from."""
