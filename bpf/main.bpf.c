// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// The kernel side: only the list of its parts. bcc compiles one text, so the loader puts them in place of the includes.
#include "include/events.h"
#include "include/syscalls.h"
#include "lib/http1.h"
#include "maps.h"
#include "lib/probe.h"
#include "lib/kernel.h"
#include "lib/exchange.h"
#include "lib/stream.h"
#include "probes/processes.h"
#include "probes/sockets.h"
#include "probes/syscalls.h"
