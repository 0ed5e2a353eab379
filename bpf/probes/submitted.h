/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Calls are handed to nghttp2, which writes them later: int32_t f(session, ...) returns the stream. Functions of this shape
 * are known to autoinstr/libraries/nghttp2_calls.py.
 */
#ifndef AUTOINSTR_PROBES_SUBMITTED_H
#define AUTOINSTR_PROBES_SUBMITTED_H

/* On entry. */
PROGRAM(nghttp2_submits, struct pt_regs *ctx)
{
	__u32 pid = current_pid();

	if (hit_of_watched(pid))
		hand_in(pid, session_key(pid, ARGUMENT(1, ctx)));
	return 0;
}

/* On return. */
PROGRAM(nghttp2_submitted, struct pt_regs *ctx)
{
	count_hit(current_pid());
	note_handed_in(RETURNED(ctx));
	return 0;
}

#endif
