#include "requests.h"

#include "children.h"

#include <stddef.h>
#include <string.h>

static bool consists_of(const char *text, const char *characters) {
    return text[strspn(text, characters)] == 0;
}

bool request_parse(char *line, struct request *request) {
    static const char *const verbs[] = {[START] = "start", [SERVE] = "serve", [RUN] = "run"};
    char *rest = line;
    const char *verb = strsep(&rest, " "), *number = strsep(&rest, " "), *id = rest;
    *request = (struct request){SHUT_DOWN, number, id};
    if (strcmp(verb, "shutdown") == 0)
        return number == NULL;
    if (id == NULL || *number == 0 || strlen(number) >= 20 || !consists_of(number, "0123456789") ||
        strlen(id) != ID_LENGTH || !consists_of(id, "0123456789abcdef"))
        return false;
    for (size_t i = START; i <= RUN; i++) {
        request->verb = (enum verb)i;
        if (strcmp(verb, verbs[i]) == 0)
            return true;
    }
    return false;
}
