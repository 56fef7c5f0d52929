package local

// OnThisMachine lets tests call from elsewhere, which loopback cannot.
var OnThisMachine = onThisMachine
