package applets

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"vkubelet.local/toolbox/call"
)

// date tells the time in UTC: an instance has no time zones.
func date(c *call.Call) int {
	precision := "date"
	for at, arg := range c.Args {
		// The only option whose value may be left out.
		for _, option := range []string{"-I", "--iso-8601="} {
			if value, ok := strings.CutPrefix(arg, option); ok && value != "" {
				precision, c.Args[at] = value, "-I"
			}
		}
	}
	options := c.Options("ud:r:RI", call.Long{
		"utc": 'u', "date": 'd', "reference": 'r', "rfc-email": 'R', "iso-8601": 'I',
	}, 1)
	now := time.Now()
	switch options.Last("dr") {
	case 'd':
		at, err := parseTime(options.Value('d', ""), now)
		if err != nil {
			c.Die(1, "invalid date '%s'", options.Value('d', ""))
		}
		now = at
	case 'r':
		info, err := os.Stat(c.Path(options.Value('r', "")))
		if err != nil {
			c.Fail(options.Value('r', ""), err)
			return 1
		}
		now = info.ModTime()
	}
	format := "%a %b %e %H:%M:%S %Z %Y"
	switch options.Last("RI") {
	case 'R':
		format = "%a, %d %b %Y %H:%M:%S %z"
	case 'I':
		known := false
		for name, layout := range map[string]string{
			"date": "%F", "hours": "%FT%H%:z", "minutes": "%FT%H:%M%:z", "seconds": "%FT%T%:z", "ns": "%FT%T,%N%:z",
		} {
			if strings.HasPrefix(name, precision) {
				format, known = layout, true
			}
		}
		if !known {
			c.Die(1, "invalid precision '%s'", precision)
		}
	}
	if len(c.Args) > 0 {
		if len(c.Args) > 1 || !strings.HasPrefix(c.Args[0], "+") {
			c.Die(1, "the time cannot be set here: '%s'", c.Args[0])
		}
		format = c.Args[0][1:]
	}
	c.Print("%s\n", formatTime(now.UTC(), format))
	return 0
}

// formatTime is strftime(3) for what scripts use; a letter that it does not know stays as it is.
func formatTime(at time.Time, format string) string {
	layouts := map[byte]string{
		'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'c': "Mon Jan _2 15:04:05 2006", 'd': "02",
		'D': "01/02/06", 'e': "_2", 'F': "2006-01-02", 'h': "Jan", 'H': "15", 'I': "03", 'j': "002", 'm': "01",
		'M': "04", 'p': "PM", 'r': "03:04:05 PM", 'R': "15:04", 'S': "05", 'T': "15:04:05", 'x': "01/02/06",
		'X': "15:04:05", 'y': "06", 'Y': "2006", 'z': "-0700", 'Z': "MST",
	}
	var out strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			out.WriteByte(format[i])
			continue
		}
		i++
		plain := format[i] == '-' && i+1 < len(format) // without padding
		if plain {
			i++
		}
		text := ""
		switch letter := format[i]; letter {
		case '%':
			text = "%"
		case ':':
			if strings.HasPrefix(format[i:], ":z") {
				i++
				text = at.Format("-07:00")
			} else {
				text = "%:"
			}
		case 'n':
			text = "\n"
		case 't':
			text = "\t"
		case 's':
			text = strconv.FormatInt(at.Unix(), 10)
		case 'N':
			text = fmt.Sprintf("%09d", at.Nanosecond())
		case 'C':
			text = fmt.Sprintf("%02d", at.Year()/100)
		case 'k':
			text = fmt.Sprintf("%2d", at.Hour())
		case 'l':
			text = fmt.Sprintf("%2d", (at.Hour()+11)%12+1)
		case 'u':
			text = strconv.Itoa((int(at.Weekday())+6)%7 + 1)
		case 'w':
			text = strconv.Itoa(int(at.Weekday()))
		case 'V':
			_, week := at.ISOWeek()
			text = fmt.Sprintf("%02d", week)
		case 'G':
			year, _ := at.ISOWeek()
			text = strconv.Itoa(year)
		default:
			if layout, known := layouts[letter]; known {
				text = at.Format(layout)
			} else {
				text = "%" + string(letter)
			}
		}
		if plain && len(text) > 1 {
			text = strings.TrimLeft(text[:len(text)-1], "0 ") + text[len(text)-1:]
		}
		out.WriteString(text)
	}
	return out.String()
}

// parseTime reads a time as people write it: RFC 3339, dates, `@SECONDS`, `now`.
func parseTime(text string, now time.Time) (time.Time, error) {
	text = strings.TrimSpace(text)
	if seconds, ok := strings.CutPrefix(text, "@"); ok {
		value, err := strconv.ParseFloat(seconds, 64)
		whole := int64(value)
		return time.Unix(whole, int64((value-float64(whole))*1e9)), err
	}
	midnight := now.UTC().Truncate(24 * time.Hour)
	switch text {
	case "now", "":
		return now, nil
	case "today":
		return now, nil
	case "yesterday":
		return now.Add(-24 * time.Hour), nil
	case "tomorrow":
		return now.Add(24 * time.Hour), nil
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04:05", "2006-01-02 15:04:05.999999999",
		"2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05 MST", "2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02",
		"2006/01/02", "20060102", time.RFC1123Z, time.RFC1123, time.UnixDate, time.ANSIC,
	} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	for _, layout := range []string{"15:04:05", "15:04"} {
		if at, err := time.Parse(layout, text); err == nil {
			return midnight.Add(time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute +
				time.Duration(at.Second())*time.Second), nil
		}
	}
	return time.Time{}, errors.New("not a date")
}

// parseStamp reads touch's -t: [[CC]YY]MMDDhhmm[.ss].
func parseStamp(text string, now time.Time) (time.Time, error) {
	digits, seconds, hasSeconds := strings.Cut(text, ".")
	switch len(digits) {
	case 8:
		digits = now.UTC().Format("2006") + digits
	case 10:
		century := "20"
		if digits[:2] >= "69" {
			century = "19"
		}
		digits = century + digits
	}
	if !hasSeconds {
		seconds = "00"
	}
	return time.Parse("200601021504.05", digits+"."+seconds)
}
