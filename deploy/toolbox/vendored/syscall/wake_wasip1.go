// Package syscall is no package of its own: the build puts this file beside those of Go's syscall.
//
// It exists because the toolbox is an image of a program that has already begun (see wake.go): what this package
// found out about its instance then has to be found out again.
package syscall

// Wake takes over the environment that the runtime has found, and finds the directories that the instance has.
func Wake() {
	envs = runtime_envs()
	clear(env)
	for i, entry := range envs {
		for end := range len(entry) {
			if entry[end] != '=' {
				continue
			}
			if _, known := env[entry[:end]]; known {
				envs[i] = "" // the first one holds
			} else {
				env[entry[:end]] = i
			}
			break
		}
	}
	preopens = preopens[:0]
	for fd := int32(firstPreopen); ; fd++ {
		var found prestat
		if errno := fd_prestat_get(fd, &found); errno == EBADF {
			break
		} else if errno != 0 || found.typ != preopentypeDir {
			continue
		}
		name := make([]byte, max(found.dir.prNameLen, 1))
		if fd_prestat_dir_name(fd, &name[0], found.dir.prNameLen) == 0 {
			preopens = append(preopens, opendir{fd: fd, name: string(name[:found.dir.prNameLen])})
		}
	}
	if cwd, _ = Getenv("PWD"); cwd != "" {
		cwd = joinPath("/", cwd)
	} else if len(preopens) > 0 {
		cwd = preopens[0].name
	}
}

// firstPreopen is the number behind those of the standard files.
const firstPreopen = 3
