/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Probes: programs on tracepoints.
 *
 * From Linux 7 on a task may be preempted in the middle of a tracepoint's program, and until it goes on, the kernel skips
 * this program for every other task on that CPU (__bpf_trace_run: `active` counts by program and CPU). There, each probe is
 * attached PROBE_COPIES times, as programs of their own: what one copy was skipped for, the next one does. A copy knows
 * what was done by a mark that the task carries from the first copy to the last. PROBE_COPIES comes from the loader.
 */
#ifndef AUTOINSTR_PROBE_H
#define AUTOINSTR_PROBE_H

/*
 * A program. They are compiled in parts, at the same time: the loader defines PROGRAM_<name> as `static` where it is of
 * another part, and as nothing in its own.
 */
#define PROGRAM(name, context) PROGRAM_##name int name(context)

#if PROBE_COPIES == 1

#define PROBE(name)                                                                                                    \
	PROGRAM(name, struct bpf_raw_tracepoint_args *ctx)                                                             \
	{                                                                                                              \
		return on_##name(ctx, 0);                                                                              \
	}

#else

enum {
	MARK_sys_enter = 1,
	MARK_sys_exit = 2,
	MARK_sched_process_fork = 4,
	MARK_sched_process_exec = 8,
	MARK_sched_process_exit = 16,
	MARK_inet_sock_set_state = 32,
	MARK_tcp_destroy_sock = 64,
};

/* MARK_* by thread id: bounded by PID_LIMIT; behind it, the idle tasks, which all have id 0, by CPU. */
#define MAX_CPUS 8192
BPF_ARRAY(marks, struct pid_block, (PID_LIMIT + MAX_CPUS) / PID_BLOCK);

/* Is it up to this copy? Marks that it was. */
static __always_inline int is_turn(__u32 copy, __u8 mark)
{
	__u32 id = bpf_get_current_pid_tgid();

	if (!id)
		id = PID_LIMIT + bpf_get_smp_processor_id();

	__u32 block = id / PID_BLOCK;
	struct pid_block *of_block = marks.lookup(&block);
	if (!of_block)
		return copy == 0;

	__u8 *marked = &of_block->flags[id % PID_BLOCK], before = *marked;

	if (copy == PROBE_COPIES - 1)
		*marked = before & ~mark;
	else
		*marked = before | mark;
	return copy == 0 || !(before & mark);
}

#define PROBE_COPY(name, program, copy)                                                                                \
	PROGRAM(program, struct bpf_raw_tracepoint_args *ctx)                                                          \
	{                                                                                                              \
		return is_turn(copy, MARK_##name) ? on_##name(ctx, copy) : 0;                                          \
	}
#define PROBE(name)                                                                                                    \
	PROBE_COPY(name, name, 0)                                                                                      \
	PROBE_COPY(name, name##_2, 1)                                                                                  \
	PROBE_COPY(name, name##_3, 2)

#endif

#endif
