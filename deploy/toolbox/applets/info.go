package applets

import (
	"fmt"
	"io/fs"
	"strconv"
	"syscall"
	"time"

	"vkubelet.local/toolbox/call"
)

func statOf(info fs.FileInfo) *syscall.Stat_t {
	if found, ok := info.Sys().(*syscall.Stat_t); ok {
		return found
	}
	return &syscall.Stat_t{}
}

func inode(info fs.FileInfo) uint64 { return statOf(info).Ino }

func links(info fs.FileInfo) uint64 { return uint64(statOf(info).Nlink) }

// shownTime is the time that the options -u and -c choose.
func shownTime(options *call.Options, info fs.FileInfo) time.Time {
	switch options.Last("uc") {
	case 'u':
		return accessed(info)
	case 'c':
		return changed(info)
	}
	return info.ModTime()
}

func accessed(info fs.FileInfo) time.Time { return time.Unix(0, int64(statOf(info).Atime)) }

func changed(info fs.FileInfo) time.Time { return time.Unix(0, int64(statOf(info).Ctime)) }

// listTime is a time as `ls -l` shows it: with the year when it is half a year away.
func listTime(at time.Time) string {
	at = at.UTC()
	if age := time.Since(at); age > 182*24*time.Hour || age < -time.Hour {
		return at.Format("Jan _2  2006")
	}
	return at.Format("Jan _2 15:04")
}

// human is a size with a unit of 1024, as -h shows it.
func human(size int64) string {
	const units = "KMGTPE"
	if size < 1024 {
		return strconv.FormatInt(size, 10)
	}
	value, unit := float64(size), -1
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	if value < 9.95 {
		return fmt.Sprintf("%.1f%c", value, units[unit])
	}
	return fmt.Sprintf("%.0f%c", value, units[unit])
}
