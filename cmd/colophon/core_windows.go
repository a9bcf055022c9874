package main

// noCoreDump does nothing: Windows writes no core files.
func noCoreDump() {}
