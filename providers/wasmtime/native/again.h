// A guest that is run again and again in one process, for whoever asks for the same often: all that surrounds a guest
// costs many times what a short one does.
//
// Standard input is a socket of packets (SOCK_SEQPACKET), of which the guest sees nothing: for it there is no input.
// Each packet that comes is answered when the guest, begun anew for it, has ended:
//
//     a byte                     its exit code
//     a byte 128 and a text      it could not be run, and why
//
// By then all that it has written is in its standard files. Where one cannot be answered, the process has ended, and
// left the record of how. It ends after as many runs as its spec says, and when nobody can ask any more.
#pragma once
#include "library.h"
#include "records.h"
#include "spec.h"

// Run it when it is asked for, from the first time on, for which it is prepared. `ending` is that of the process.
void again_serve(const struct runtime *runtime, const struct spec *spec, struct ending *ending);
