package attack

// These attacks come from another user of the host. They are unit tests of the packages.
func init() {
	for _, a := range []attack{
		{name: "foreign-data-directory", tries: "have root's serve adopt a data directory, configuration or enrolment that another user can change",
			guard: "root or colophond's user owns every step of the path, and nobody else may write it: internal/owned check", unit: "platform: TestDataOfSomebodyElse",
			cuts: []cut{
				{"internal/owned/owned.go", `if uid != 0 && uid != os.Geteuid() && !slices.Contains(users, uid) &&`, `if false && !slices.Contains(users, uid) &&`},
				{"internal/owned/owned.go", `if info.Mode().Type() != fs.ModeSymlink && writable(path, info) &&`, `if false && writable(path, info) &&`},
			}},
		{name: "planted-keys", tries: "have root's serve use keys that another user has put into its data directory",
			guard: "what is in the data directory belongs to root or to its role: platform ownData", unit: "platform: TestDataOfSomebodyElse",
			cuts: []cut{{"platform/data.go", `uid := int(info.Sys().(*syscall.Stat_t).Uid); !slices.Contains(users, uid) {`, `uid := int(info.Sys().(*syscall.Stat_t).Uid); false && !slices.Contains(users, uid) {`}}},
		{name: "chown-by-path", tries: "have root give a user files that the user does not own, through links and exchanged directories",
			guard: "only what root owns is given, by descriptor: internal/owned give", unit: "internal/owned: TestGiveRefuses",
			cuts: []cut{{"internal/owned/owned.go", `if st.Uid != 0 && int(st.Uid) != uid {`, `if false {`}}},
		{name: "readable-enrolment", tries: "read the private keys in the file that enrol makes, under the usual umask",
			guard: "enrol writes the file itself, with mode 0600: platform Enrol", unit: "platform: TestEnrolWritesPrivateFiles",
			cuts: []cut{{"platform/enrol.go", `append(out, '\n'), 0o600)`, `append(out, '\n'), 0o644)`}}},
		{name: "overlapping-users", tries: "give rooms the user of a role, of an account, or of another platform's room",
			guard: "the ranges of uids of roles, rooms and accounts are disjoint: platform checkUIDs, platform/builder/sandbox Range", unit: "platform: TestUIDsDoNotOverlap",
			cuts: []cut{
				{"platform/builder/sandbox/slot.go", `case base%slotSize != 0 || base > math.MaxUint32-slots*slotSize:`, `case false:`},
				{"platform/users.go", `case int64(last) >= int64(rooms) && int64(roleBase) < int64(rooms)+int64(size):`, `case false && size > 0:`},
			}},
		{name: "unknown-owner", tries: "own the data directory of a serve that somebody's user namespace keeps from telling users of the host apart",
			guard: "unknown users count as root only where serve's starter has checked the path outside: internal/owned check", unit: "internal/owned: TestUnknownUsersOfANamespace",
			cuts: []cut{{"internal/owned/owned.go", `!(userns.Entered() && uid == userns.Outside)`, `uid != userns.Outside`}}},
		{name: "plain-user-as-root", tries: "have a platform in a plain user's namespace claim the isolation and the level of root's",
			guard: "the kernel says in which user namespace serve runs: internal/userns Initial, platform zones", unit: "platform: TestRootOfANamespaceIsNoRoot",
			cuts: []cut{
				{"internal/userns/userns.go", `== nil && st.Ino == initial`, `== nil && initial > 0`},
				{"platform/builders.go", `	case u.nested:`, `	case false:`},
			}},
		{name: "plain-users-processes", tries: "start processes without end on a plain user's platform, under one user of the room after the other",
			guard: "the kernel counts the processes of a room's namespace for its owner: platform/builder/sandbox limitProcesses", unit: "platform/builder/sandbox: TestLimitProcesses",
			cuts: []cut{{"platform/builder/sandbox/nested.go", `Cur: min(uint64(most), old.Max)`, `Cur: old.Max`}}},
		{name: "out-of-descriptors", tries: "end a role for good by connections, until it has no descriptors left",
			guard: "Accept tries again: platform/zone steady", unit: "platform/zone: TestAcceptGoesOn",
			cuts: []cut{{"platform/zone/steady.go", `	return steady{l, log}`, `	return l`}}},
	} {
		register(a)
	}
}
