/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Which execution context (PEP 567) a thread of Python is in: of each task of asyncio its own, and of each callback. Or
 * which greenlet: these have no contexts until they use one.
 *
 * Where the interpreter keeps it is learned by user space (autoinstr/libraries/python_layout.py) and part of the
 * process's RUNTIME_* flags.
 */
#ifndef AUTOINSTR_PYTHON_H
#define AUTOINSTR_PYTHON_H

/* struct _pycontextobject of Python 3.7 and newer, in 64 bits */
#define CONTEXT_ENTERED 40

/* The current thread's PyThreadState; 0: it is not known. */
static __always_inline __u64 python_state(__u64 runtime)
{
	__u64 state = 0;
#ifdef OFFSET_task_fsbase
	__u64 thread = kernel_u64(bpf_get_current_task() + OFFSET_task_fsbase);

	bpf_probe_read_user(&state, sizeof(state), (void *)(thread + RUNTIME_STATE(runtime)));
#endif
	return state;
}

/* The current context's address; 0: none was entered, as in a thread that runs no tasks. */
static __always_inline __u64 python_context(__u64 runtime)
{
	__u64 state = python_state(runtime), context = 0;
	__u32 entered = 0;

	if (!state || RUNTIME_CONTEXT(runtime) == 0 ||
	    bpf_probe_read_user(&context, sizeof(context), (void *)(state + RUNTIME_CONTEXT(runtime))) || !context)
		return 0;
	/* one that a thread has without entering it is made where no probe sees it, maybe at the place of an older one */
	if (bpf_probe_read_user(&entered, sizeof(entered), (void *)(context + CONTEXT_ENTERED)) || !entered)
		return 0;
	return context;
}

static __always_inline int has_greenlets(__u64 runtime)
{
	return RUNTIME_STACK(runtime) > 0 && !(runtime & RUNTIME_UVLOOP);
}

/* struct _stack_chunk of Python 3.11 and newer begins with the one before it. As many as a deep stack has, of 16 KB each. */
#define CHUNKS 12

/* A greenlet has a data stack of its own. Returns the address of its first chunk, which is there as long as it is; 0: unknown. */
static __always_inline __u64 python_greenlet(__u64 runtime)
{
	__u64 state = python_state(runtime), chunk, before = state + RUNTIME_STACK(runtime);

	for (int i = 0; state && i < CHUNKS; i++) {
		chunk = before;
		if (bpf_probe_read_user(&before, sizeof(before), (void *)chunk))
			return 0;
		if (!before)
			return i ? chunk : 0;
	}
	return 0;
}

#endif
