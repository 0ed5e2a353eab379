/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Python makes a new context from the current one: for a task of asyncio, a callback, or work that is handed to a thread.
 * What is done in it is done for what its maker serves.
 *
 * A callback that reads a request serves it; what it makes then (a task for each request: uvicorn) does, too. Where a
 * connection has a task of its own (aiohttp), which came with the connection, that one serves what the connection has
 * to answer next, from the moment on that it makes a task for it, or makes a call by itself (streams): see takes_up. What is
 * made for a connection is known by accept().
 */
#ifndef AUTOINSTR_PROBES_PYTHON_H
#define AUTOINSTR_PROBES_PYTHON_H

/* On the return of PyContext_CopyCurrent. */
int python_copied(struct pt_regs *regs)
{
	__u32 pid = current_pid();

	if (!hit_of_watched(pid))
		return 0;

	__u64 runtime = runtime_of(pid);
	if (!(runtime & RUNTIME_PYTHON) || !RETURNED(regs))
		return 0;

	__u64 now = own_context(pid, bpf_get_current_pid_tgid(), runtime);
	int reads = !now && runtime & RUNTIME_UVLOOP && python_context(runtime);
	__u64 maker = now ? session_key(pid, now) : (__u32)bpf_get_current_pid_tgid();
	__u64 made = session_key(pid, RETURNED(regs));
	struct context *from = contexts.lookup(&maker), new = {.pid = pid};

	if (from && from->pid == pid && (reads ? !(from->mixed & AT_ONCE) : !from->loop && !is_mixed(from, RUNTIME_PYTHON))) {
		new.now = from->now;
		if (new.now.span == SPAN_NEXT) {
			struct connection *own = know_next(&new.now);

			if (own)
				takes_up(from, own, &new.now, bpf_get_current_pid_tgid(), runtime);
		}
	}
	new.first = new.now.span;
	/* there may have been another one at that address */
	if (new.now.span == SPAN_NEXT || served_trace(&new.now))
		contexts.update(&made, &new);
	else
		contexts.delete(&made);
	return 0;
}

/*
 * On entry of uvloop's own Context_Enter(context): the first one after a read is that of who gets what was read. What is
 * entered later has nothing to do with that.
 */
int python_enters(struct pt_regs *regs)
{
	__u32 pid = current_pid();

	if (!hit_of_watched(pid))
		return 0;

	__u64 thread = (__u32)bpf_get_current_pid_tgid();
	struct context *ctx = contexts.lookup(&thread);

	if (!ctx || ctx->pid != pid || !(runtime_of(pid) & RUNTIME_UVLOOP))
		return 0;
	if (ctx->entered == READ_NOW) {
		ctx->entered = ARGUMENT(1, regs);
	} else {
		ctx->entered = 0;
		ctx->now.span = 0;
	}
	return 0;
}

#endif
