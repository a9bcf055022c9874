package attack

// These attacks come from another user of the host. They are unit tests of the packages.
func init() {
	for _, a := range []attack{
		{name: "foreign-data-directory", tries: "have root's serve adopt a data directory, configuration or enrolment that another user can change",
			guard: "root or colophond's user owns every step of the path, and nobody else may write it: internal/owned check", unit: "platform: TestDataOfSomebodyElse",
			cuts: []cut{
				{"internal/owned/owned.go", `if uid != 0 && uid != os.Geteuid() && !slices.Contains(users, uid) {`, `if false && !slices.Contains(users, uid) {`},
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
				{"platform/builder/sandbox/slot.go", `if base%slotSize != 0 || base > math.MaxUint32-slots*slotSize {`, `if false {`},
				{"platform/users.go", `case int64(last) >= int64(rooms) && int64(roleBase) < int64(rooms)+int64(size):`, `case false && size > 0:`},
			}},
		{name: "out-of-descriptors", tries: "end a role for good by connections, until it has no descriptors left",
			guard: "Accept tries again: platform/zone steady", unit: "platform/zone: TestAcceptGoesOn",
			cuts: []cut{{"platform/zone/steady.go", `	return steady{l, log}`, `	return l`}}},
	} {
		register(a)
	}
}
