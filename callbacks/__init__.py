"""Watch training, log and write what happens, and change nothing."""
