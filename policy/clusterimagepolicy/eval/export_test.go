package eval

// RunWithin is Run with another time than MaxWait.
var RunWithin = run
