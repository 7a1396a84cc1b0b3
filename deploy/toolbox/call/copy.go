package call

import "io"

// Copy moves all of src to dst in large blocks and returns how much that was.
//
// io.Copy would leave the size of the blocks to os.File, which takes 32 KiB.
func Copy(dst io.Writer, src io.Reader) (int64, error) {
	return CopyBuffer(dst, src, make([]byte, blockSize))
}

// CopyBuffer is Copy with a block of the caller's.
func CopyBuffer(dst io.Writer, src io.Reader, block []byte) (int64, error) {
	var total int64
	for {
		n, err := src.Read(block)
		if n > 0 {
			written, failure := dst.Write(block[:n])
			total += int64(written)
			if failure != nil {
				return total, failure
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// Block is a new buffer of the size that is read and written at once.
func Block() []byte { return make([]byte, blockSize) }
