package backup

const mib = 1 << 20

// PartSizeBytes is the size of every part but the last of a file of sizeBytes: the base size, grown in whole MiB as
// soon as the file would need more than plannedParts parts.
func PartSizeBytes(sizeBytes int64) int64 { return PartSizeWithin(sizeBytes, plannedParts) }

// PartSizeWithin is PartSizeBytes for a storage that takes at most maxParts parts.
func PartSizeWithin(sizeBytes, maxParts int64) int64 {
	needed := ceilDiv(ceilDiv(sizeBytes, maxParts), mib) * mib
	return max(BasePartSizeBytes, needed)
}

// PartCount is the number of parts of sizeBytes cut into parts of partSizeBytes.
func PartCount(sizeBytes, partSizeBytes int64) int {
	return int(ceilDiv(sizeBytes, partSizeBytes))
}

// PartRange is the byte range of part number n (from 1) of the file: the offset of its first byte and its length.
func (f File) PartRange(n int) (offset, lengthBytes int64) {
	offset = int64(n-1) * f.PartSizeBytes
	return offset, min(f.PartSizeBytes, f.Pin.SizeBytes-offset)
}

// PartCount is the number of parts of the file.
func (f File) PartCount() int {
	if f.PartSizeBytes == 0 {
		return 0
	}
	return PartCount(f.Pin.SizeBytes, f.PartSizeBytes)
}

// Batch is a run of consecutive parts that one worker moves; both ends are inclusive and count from 1.
type Batch struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

// Batches cuts the parts of a file into batches. At most maxBatches come out; small files are cut finely enough to
// keep `parallel` workers busy to the end.
func Batches(parts, parallel, maxBatches int) []Batch {
	if parts <= 0 {
		return nil
	}
	even := (parts + 4*parallel - 1) / (4 * parallel)
	perBatch := max((parts+maxBatches-1)/maxBatches, min(even, maxPartsPerSmallBatch))
	batches := make([]Batch, 0, (parts+perBatch-1)/perBatch)
	for first := 1; first <= parts; first += perBatch {
		batches = append(batches, Batch{First: first, Last: min(first+perBatch-1, parts)})
	}
	return batches
}

// Missing keeps the batches in which at least one part is not recorded yet.
func Missing(batches []Batch, recorded []Part) []Batch {
	done := make(map[int]bool, len(recorded))
	for _, p := range recorded {
		done[p.Number] = true
	}
	missing := make([]Batch, 0, len(batches))
	for _, b := range batches {
		if !b.complete(done) {
			missing = append(missing, b)
		}
	}
	return missing
}

func (b Batch) complete(done map[int]bool) bool {
	for n := b.First; n <= b.Last; n++ {
		if !done[n] {
			return false
		}
	}
	return true
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }
