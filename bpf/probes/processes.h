/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Birth, new program and end of processes: who is a target from its first instruction on. */
#ifndef AUTOINSTR_PROCESSES_H
#define AUTOINSTR_PROCESSES_H

static __always_inline struct process *new_event(__u32 kind, __u32 pid)
{
	struct process *event = processes.ringbuf_reserve(sizeof(struct process));

	if (!event) {
		count(COUNT_PROCESS_RING_FULL);
		return NULL;
	}
	event->time = bpf_ktime_get_ns();
	event->kind = kind;
	event->pid = pid;
	event->parent = 0;
	event->port = 0;
	event->args_size = 0;
	event->filename[0] = 0;
	return event;
}

/* The reader looks by itself now and then; it is woken once in a third of the ring. */
static __always_inline void tell_event(struct process *event)
{
	zero_key zero = 0;
	struct pace *p = pace.lookup((__u32 *)&zero);
	__u64 flags = BPF_RB_NO_WAKEUP;

	if (p && ++p->processes >= PROCESS_RING_PAGES * 4096 / (sizeof(*event) + 8) / 3) {
		p->processes = 0;
		flags = BPF_RB_FORCE_WAKEUP;
	}
	processes.ringbuf_submit(event, flags);
}

/*
 * What may have libraries that are worth a probe is told at once: its first request may be near. What it maps until user
 * space looks need not be told.
 */
static __always_inline void tell_program(struct process *event, __u8 *target)
{
	*target |= TARGET_MAPPED;
	processes.ringbuf_submit(event, BPF_RB_FORCE_WAKEUP);
}

/* Parent and arguments of the current process, which may have ended when user space looks. */
static __always_inline void describe_program(struct process *event)
{
	__u64 task = bpf_get_current_task();
	__u64 mm = kernel_u64(task + OFFSET_task_struct_mm);
	__u64 begin = kernel_u64(mm + OFFSET_mm_struct_arg_start), end = kernel_u64(mm + OFFSET_mm_struct_arg_end);
	__u64 size = end - begin;

	if (size > PROCESS_ARGS_SIZE)
		size = PROCESS_ARGS_SIZE;
	event->parent = visible_pid(kernel_u64(task + OFFSET_task_struct_real_parent));
	if (!bpf_probe_read_user(event->args, size, (void *)begin))
		event->args_size = size;
}

/* raw tracepoint: (struct task_struct *parent, struct task_struct *child) */
static __always_inline int on_sched_process_fork(struct bpf_raw_tracepoint_args *ctx, __u32 copy)
{
	__u64 child_task = ctx->args[1];

	__u32 thread = kernel_u32(child_task + OFFSET_task_struct_pid), parent = current_pid();
	__u8 *from = target_of(parent);
	if (!from)
		return 0;
	if (thread != kernel_u32(child_task + OFFSET_task_struct_tgid)) {
		if (*from && !(*from & TARGET_SELF))
			note_fork(parent, thread, parent);
		return 0;
	}

	__u32 child = visible_pid(child_task);
	__u8 *to = target_of(child);
	if (!child || !to)
		return 0;
	if (*from & TARGET_SELF || !*from) {
		if (*to)
			*to = 0; /* the pid of a target that is gone */
		return 0;
	}
	*to = *from & ~TARGET_MAPPED;
	note_fork(parent, thread, child);

	__u64 runtime = runtime_of(parent);
	if (runtime)
		set_runtime(child, runtime);

	struct process *event = new_event(PROCESS_FORK, child);
	if (!event)
		return 0;
	event->parent = parent;
	tell_event(event);
	return 0;
}
PROBE(sched_process_fork)

/* raw tracepoint: (struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm) */
static __always_inline int on_sched_process_exec(struct bpf_raw_tracepoint_args *ctx, __u32 copy)
{
	zero_key zero = 0;
	__u32 pid = current_pid();
	struct control *c = control.lookup((__u32 *)&zero);
	__u8 *target = target_of(pid);

	if (!c || !pid || !target || *target & TARGET_SELF)
		return 0;
	if (!*target && !c->watch_exec)
		return 0;
	if (!*target)
		*target = TARGET_WATCHED | TARGET_PROVISIONAL;

	struct process *event = new_event(PROCESS_EXEC, pid);
	if (!event)
		return 0;

	forget_runtime(pid);
	describe_program(event);
	bpf_probe_read_kernel_str(event->filename, PROCESS_FILENAME_SIZE,
				  (void *)kernel_u64(ctx->args[2] + OFFSET_linux_binprm_filename));
	tell_program(event, target);
	return 0;
}
PROBE(sched_process_exec)

/* raw tracepoint: (struct task_struct *task) */
static __always_inline int on_sched_process_exit(struct bpf_raw_tracepoint_args *ctx, __u32 copy)
{
	__u64 task = bpf_get_current_task();
	__u32 pid = current_pid();
	__u8 *target = target_of(pid);

	if (!target || !*target || *target & TARGET_SELF)
		return 0;
	if (kernel_u32(kernel_u64(task + OFFSET_task_struct_signal) + OFFSET_signal_struct_live))
		return 0; /* other threads go on */
	*target = 0;
	/* or so many that ended would drive out one that lives, and does nothing for long */
	forget_runtime(pid);
	lenders.delete(&pid);
	loops.delete(&pid);
	go_layouts.delete(&pid);
#ifdef PROPAGATE_GO
	go_fields.delete(&pid);
#endif

	struct process *event = new_event(PROCESS_EXIT, pid);
	if (event)
		tell_event(event);
	return 0;
}
PROBE(sched_process_exit)

/* A target has mapped a file's code: a library that is worth a probe? Told once, until user space has looked. */
static __always_inline void mapped_code(__u32 pid, __u8 *target)
{
	if (*target & TARGET_MAPPED)
		return;

	struct process *event = new_event(PROCESS_MAP, pid);
	if (event)
		tell_program(event, target);
}

/*
 * A TCP socket of the current process begins to listen: is its port asked for? Also told of who is watched already: that
 * may be for a moment only, until user space has looked at what it executes.
 */
static __always_inline void listening(__u64 sk)
{
	zero_key zero = 0;
	__u32 port = local_port(sk), pid = current_pid();
	struct port_block *wanted = ports.lookup((__u32 *)&zero);
	__u8 *target = target_of(pid);

	if (!wanted || !target || !pid || *target & TARGET_SELF)
		return;
	if (port > 65535 || !(wanted->bits[port / 64] & (1ULL << (port & 63))))
		return;
	*target |= TARGET_WATCHED;

	struct process *event = new_event(PROCESS_LISTEN, pid);
	if (!event)
		return;
	event->port = port;
	describe_program(event);
	tell_program(event, target);
}

#endif
