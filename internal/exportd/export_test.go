package exportd

const DumpStderrBytes = dumpStderrBytes

func Redact(text, password, said string) string { return redact(text, password, said) }

func Unmistakable(password string) bool { return unmistakable(password) }

// Said is what is told of a tool's complaints.
func Said(password, complaints string) string {
	d, h := &dump{password: password, args: func(string) []string { return nil }}, &head{}
	_, _ = h.Write([]byte(complaints))
	return d.said("tool", h)
}
