/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Calls are handed to nghttp2, which writes them later: int32_t f(session, ...) returns the stream. Functions of this shape
 * are known to autoinstr/libraries/nghttp2.py.
 */
#ifndef AUTOINSTR_PROBES_NGHTTP2_H
#define AUTOINSTR_PROBES_NGHTTP2_H

/* On entry. */
PROGRAM(nghttp2_submits, struct pt_regs *ctx)
{
	__u32 pid = current_pid(), tid = bpf_get_current_pid_tgid();
	__u8 *target = target_of(pid);
	struct submitting new = {};

	if (!pid || !target || !*target || *target & TARGET_SELF)
		return 0;
	new.session = session_key(pid, ARGUMENT(1, ctx));
	know_asker(pid, &new.call);
	submitting.update(&tid, &new);
	return 0;
}

/* On return. */
PROGRAM(nghttp2_submitted, struct pt_regs *ctx)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct submitting *new = submitting.lookup(&tid);
	__s32 stream = RETURNED(ctx);

	if (!new)
		return 0;
	if (stream > 0) {
		struct submitted_key key = {.session = new->session, .stream = stream};
		struct submitted_key last = {.session = tid, .stream = stream}, other = {.stream = stream};
		struct submitted mark = {.request.key = new->session}, *before = submitted.lookup(&last);

		if (before && before->request.key != new->session) {
			other.session = before->request.key;
			before = submitted.lookup(&other);
			mark.request.several = before && !before->written;
		}
		submitted.update(&key, &new->call);
		submitted.update(&last, &mark);
	}
	submitting.delete(&tid);
	return 0;
}

#endif
