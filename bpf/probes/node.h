/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Node acts at once on what it has read: handler, ticks and promises are done before anything else is read. What its event
 * loop does then has nothing to do with that: timers, immediates, writes that are done now. The functions are known to
 * autoinstr/libraries/node.py. Completions of its thread pool are told by an eventfd, which is read, too.
 */
#ifndef AUTOINSTR_PROBES_NODE_H
#define AUTOINSTR_PROBES_NODE_H

/* On entry. */
int event_loop_turns(struct pt_regs *regs)
{
	__u32 pid = current_pid();
	__u8 *target = target_of(pid);

	if (pid && target && *target && !(*target & TARGET_SELF))
		note_other(pid);
	return 0;
}

#endif
