package confine

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"runtime"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A rule decides a system call if all its conditions hold. The rules of one call
// are adjacent and are tried in order; if no rule decides, the call is allowed.
type rule struct {
	nr   uint32
	when []cond
	errn unix.Errno // returned to the caller; 0 allows the call
}

// cond holds if args[arg] & mask == value. It compares only the lower 32 bits:
// the kernel reads all arguments tested here as 32 bits, so an attacker could
// evade a comparison of 64 bits by setting upper bits that the kernel ignores.
type cond struct {
	arg         int
	mask, value uint32
}

// Offsets in struct seccomp_data (seccomp(2)). Arguments are 64 bits wide; both
// supported architectures are little-endian, so the lower half comes first.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// maxInstructions is the kernel's limit for one filter (linux/bpf_common.h, BPF_MAXINSNS).
const maxInstructions = 4096

// Filter is a compiled seccomp filter (seccomp(2), SECCOMP_SET_MODE_FILTER).
type Filter struct{ program []bpf.RawInstruction }

// compile makes a filter that applies the rules. The filter kills a process that
// makes a system call of another architecture, whose numbers mean other calls. It
// returns ENOSYS for calls above newest, including those of x32, whose numbers
// begin at 1<<30.
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
			panic(fmt.Sprintf("confine: the rules of system call %d are not adjacent", nr))
		}
		seen[nr] = true
		var body []bpf.Instruction
		decided := false
		for len(rules) > 0 && rules[0].nr == nr {
			r := rules[0]
			rules = rules[1:]
			if decided {
				panic(fmt.Sprintf("confine: a rule of system call %d follows a rule without conditions, so it is never reached", nr))
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
		if len(body) > math.MaxUint8 {
			panic(fmt.Sprintf("confine: the rules of system call %d take %d instructions, want at most %d: a jump cannot skip more", nr, len(body), math.MaxUint8))
		}
		prog = append(prog, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nr, SkipTrue: uint8(len(body))})
		prog = append(prog, body...)
	}
	if prog = append(prog, allow); len(prog) > maxInstructions {
		panic(fmt.Sprintf("confine: the filter takes %d instructions, want at most %d", len(prog), maxInstructions))
	}
	raw, err := bpf.Assemble(prog)
	if err != nil {
		panic("confine: " + err.Error()) // a bug: the rules are constants of this package
	}
	return &Filter{raw}
}

// Digest returns the hex sha256 of the compiled filter: each instruction as code
// (2 bytes), jt, jf (1 byte each) and k (4 bytes), little-endian. It differs
// between architectures.
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

// Install puts the filter on all threads of this process; this cannot be undone,
// and executed programs inherit the filter. The process must have set no_new_privs
// or have CAP_SYS_ADMIN.
func (f *Filter) Install() error {
	prog := make([]unix.SockFilter, len(f.program))
	for i, in := range f.program {
		prog[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	// If a thread cannot take the filter, seccomp returns its id instead of an error.
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
