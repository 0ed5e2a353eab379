/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Node acts at once on what it has read: handler, ticks and promises are done before anything else is read. What its event
 * loop does then has nothing to do with that: timers, immediates, writes that are done now. The functions are known to
 * autoinstr/libraries/node.py.
 *
 * What libuv's thread pool does (files, names of hosts, compression) is given to it by the loop, and when it is done the loop
 * goes on with that, piece by piece, after it has read the eventfd that tells of it. Whom a piece of work is for is known
 * when it is given, and it is one object from then until it is done: a struct uv__work, which lies in its request. What is
 * done in the function that is called then is for that; behind it nothing is known again.
 */
#ifndef AUTOINSTR_PROBES_NODE_H
#define AUTOINSTR_PROBES_NODE_H

/* On entry; of what was done for the thread pool on return. */
int event_loop_turns(struct pt_regs *regs)
{
	__u32 pid = current_pid();

	if (hit_of_watched(pid))
		note_other(pid);
	return 0;
}

#define WORK_OF_REQUEST 88 /* offsetof(uv_work_t, work_req), which is the same in all of libuv 1 */

/* The loop gives this away. */
static __always_inline void begin_pool_work(__u64 address)
{
	__u32 pid = current_pid();
	__u64 work = session_key(pid, address);
	struct submitted call = {};

	if (!hit_of_watched(pid))
		return;
	know_asker(pid, &call);
	if (call.request.span)
		pool_works.update(&work, &call.request);
}

/* On entry: (loop, work, ...) */
int pool_work_begins(struct pt_regs *regs)
{
	begin_pool_work(ARGUMENT(2, regs));
	return 0;
}

/* On entry: (loop, request, ...), of work that is no part of libuv. */
int pool_request_begins(struct pt_regs *regs)
{
	begin_pool_work(ARGUMENT(2, regs) + WORK_OF_REQUEST);
	return 0;
}

/* The loop goes on with this. */
static __always_inline void end_pool_work(__u64 address)
{
	__u32 pid = current_pid();
	__u64 work = session_key(pid, address), execution = (__u32)bpf_get_current_pid_tgid();

	if (!hit_of_watched(pid))
		return;

	struct context *ctx = contexts.lookup(&execution);
	struct served *asked = pool_works.lookup(&work);

	if (!asked)
		return;
	if (ctx && ctx->loop && ctx->pid == pid)
		go_on_with(ctx, asked);
	pool_works.delete(&work);
}

/* On entry: (work, status). */
int pool_work_ends(struct pt_regs *regs)
{
	end_pool_work(ARGUMENT(1, regs));
	return 0;
}

/* On entry: (request, status). */
int pool_request_ends(struct pt_regs *regs)
{
	end_pool_work(ARGUMENT(1, regs) + WORK_OF_REQUEST);
	return 0;
}

#endif
