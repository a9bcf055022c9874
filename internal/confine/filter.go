package confine

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A rule decides one system call where all its conditions hold. Rules of one
// call stand together and are tried in order; a call that none decides passes.
type rule struct {
	nr   uint32
	when []cond
	errn unix.Errno // what the caller gets; 0 lets it pass
}

// cond holds where argument arg, masked, is value. It sees the lower 32 bits
// alone: every argument tested here is one that the kernel takes as 32 bits, and
// a test of all 64 could be led past with bits that the kernel ignores.
type cond struct {
	arg         int
	mask, value uint32
}

// Offsets in struct seccomp_data (seccomp(2)); arguments are 64 bits wide, and
// both architectures that we know have their lower half first.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// Filter is a compiled seccomp filter (seccomp(2), SECCOMP_SET_MODE_FILTER).
type Filter struct{ program []bpf.RawInstruction }

// compile refuses what the rules refuse, kills what enters the kernel by another
// architecture's door (its numbers mean other calls), and answers ENOSYS to the
// calls that are newer than newest. That also covers x32, whose numbers begin
// at 1<<30.
func compile(rules []rule) *Filter {
	errno := func(e unix.Errno) bpf.Instruction {
		return bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(e)&unix.SECCOMP_RET_DATA}
	}
	allow := bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}
	prog := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: auditArch, SkipTrue: 1},
		bpf.RetConstant{Val: unix.SECCOMP_RET_KILL_PROCESS},
		bpf.LoadAbsolute{Off: offNumber, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: newest, SkipTrue: 1},
		errno(unix.ENOSYS),
	}
	seen := map[uint32]bool{}
	for len(rules) > 0 {
		nr := rules[0].nr
		if seen[nr] {
			panic(fmt.Sprintf("confine: the rules of system call %d do not stand together", nr))
		}
		seen[nr] = true
		var body []bpf.Instruction
		decided := false
		for len(rules) > 0 && rules[0].nr == nr {
			r := rules[0]
			rules = rules[1:]
			if decided {
				panic(fmt.Sprintf("confine: a rule of system call %d comes after one that always holds", nr))
			}
			var end bpf.Instruction = allow
			if r.errn != 0 {
				end = errno(r.errn)
			}
			for i, c := range r.when {
				rest := 3*(len(r.when)-1-i) + 1 // instructions of this rule after the jump
				body = append(body,
					bpf.LoadAbsolute{Off: offArgs + 8*uint32(c.arg), Size: 4},
					bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: c.mask},
					bpf.JumpIf{Cond: bpf.JumpEqual, Val: c.value, SkipFalse: uint8(rest)})
			}
			body = append(body, end)
			decided = len(r.when) == 0
		}
		if !decided {
			body = append(body, allow)
		}
		prog = append(prog, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nr, SkipTrue: uint8(len(body))})
		prog = append(prog, body...)
	}
	raw, err := bpf.Assemble(append(prog, allow))
	if err != nil {
		panic("confine: " + err.Error()) // the rules are ours
	}
	return &Filter{raw}
}

// Digest is the hex sha256 of the compiled filter: each instruction as code (2
// bytes), jt, jf and k (4 bytes), little-endian. It differs by architecture.
func (f *Filter) Digest() string {
	h := sha256.New()
	for _, i := range f.program {
		var b [8]byte
		binary.LittleEndian.PutUint16(b[:], i.Op)
		b[2], b[3] = i.Jt, i.Jf
		binary.LittleEndian.PutUint32(b[4:], i.K)
		h.Write(b[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Install puts the filter on all threads of this process, for good: programs
// that it executes inherit it. The caller holds no_new_privs, or CAP_SYS_ADMIN.
func (f *Filter) Install() error {
	prog := make([]unix.SockFilter, len(f.program))
	for i, in := range f.program {
		prog[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	// Where a thread could not be brought along its id is returned, not an error.
	tid, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(prog)
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	if tid != 0 {
		return fmt.Errorf("seccomp: thread %d has another filter", tid)
	}
	return nil
}
