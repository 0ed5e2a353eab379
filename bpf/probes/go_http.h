/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Go's HTTP servers: which route a request takes, in the words of the router, where it has just been found. The goroutine
 * serves the request, so nothing has to be read of that. Where these programs are attached is known to
 * autoinstr/libraries/go_http.py: behind a call, with its results where Go returns them.
 */
#ifndef AUTOINSTR_PROBES_GO_HTTP_H
#define AUTOINSTR_PROBES_GO_HTTP_H

/* What the current goroutine serves; NULL: nothing, or it is none of a target. */
static __always_inline struct context *serving_goroutine(struct pt_regs *ctx, __u32 pid)
{
	if (!hit_of_watched(pid))
		return NULL;

	__u64 execution = goroutine_key(pid, GOROUTINE(ctx), go_layouts.lookup(&pid));
	struct context *context = contexts.lookup(&execution);

	if (!context)
		context = inherit(pid, GOROUTINE(ctx), execution, 0);
	return context && context->pid == pid && context->now.span ? context : NULL;
}

/* The key of a text of this process, which is kept under it. */
static __always_inline __u64 name_text(__u32 pid, __u8 kind, const struct text *text)
{
	__u64 key = name_key((__u64)pid << 32 | kind, text);
	struct name *new = new_name(key, kind);

	if (new)
		add_text(new, text);
	return key;
}

/* The request that the current goroutine serves is called so. */
static __always_inline int call_it(struct pt_regs *ctx, __u8 kind, __u64 at, __u64 size)
{
	__u32 pid = current_pid();
	struct context *context = serving_goroutine(ctx, pid);
	struct text text = {.at = at, .size = size};

	if (!context || !size || !served_trace(&context->now))
		return 0;

	set_name(&context->now, name_text(pid, kind, &text));
	return 0;
}

/*
 * func (mux *ServeMux) findHandler(r *Request) (h Handler, patStr string, _ *pattern, matches []string), and
 * func (mux *ServeMux) Handler(r *Request) (h Handler, pattern string), which ServeHTTP called before Go 1.22
 */
int go_route_pattern(struct pt_regs *ctx)
{
	return call_it(ctx, NAME_PATTERN, GO_ARGUMENT_3(ctx), GO_ARGUMENT_4(ctx));
}

/* gin: func (n *node) getValue(...) (value nodeValue), which is {handlers, params, tsr, fullPath} */
int go_route_gin(struct pt_regs *ctx)
{
	return GO_ARGUMENT_1(ctx) ? call_it(ctx, NAME_ROUTE, GO_ARGUMENT_6(ctx), GO_ARGUMENT_7(ctx)) : 0;
}

/* chi: func (n *node) FindRoute(rctx *Context, method methodTyp, path string) (*node, endpoints, http.Handler) */
#define CHI_PARTS 4	 /* routers within routers that are followed */

/* `patterns`: where RoutePatterns lies in Context */
static __always_inline int call_it_by_parts(struct pt_regs *ctx, __u64 patterns)
{
	__u32 pid = current_pid();
	struct context *context = serving_goroutine(ctx, pid);
	struct text list, parts[CHI_PARTS] = {};
	__u64 rctx = 0, key = (__u64)pid << 32 | NAME_CHI;

	if (!context || !GO_ARGUMENT_1(ctx) || !served_trace(&context->now) ||
	    bpf_probe_read_user(&rctx, sizeof(rctx), (void *)(ctx->sp + GO_SECOND_LEFT)) ||
	    bpf_probe_read_user(&list, sizeof(list), (void *)(rctx + patterns)))
		return 0;
	if (!list.size || list.size > CHI_PARTS ||
	    bpf_probe_read_user(parts, at_most(list.size, CHI_PARTS) * sizeof(struct text), (void *)list.at))
		return 0;

#pragma unroll
	for (int i = 0; i < CHI_PARTS; i++)
		if (parts[i].size)
			key = name_key(key, &parts[i]);

	struct name *new = new_name(key, NAME_CHI);
	if (new) {
#pragma unroll
		for (int i = 0; i < CHI_PARTS; i++)
			add_text(new, &parts[i]);
	}
	set_name(&context->now, key);
	return 0;
}

int go_route_chi(struct pt_regs *ctx)
{
	return call_it_by_parts(ctx, 176);
}

/* before 5.0.1 */
int go_route_chi_4(struct pt_regs *ctx)
{
	return call_it_by_parts(ctx, 48);
}

/*
 * echo: func (r *Router) Find(method, path string, c Context), which puts the route's path into the context: the seventh of its
 * words, with its receiver
 */
int go_route_echo(struct pt_regs *ctx)
{
	__u32 pid = current_pid();
	struct go_layout *l = go_layouts.lookup(&pid);
	__u64 context = l && l->echo_path ? user_u64(ctx->sp + GO_SECOND_LEFT + 5 * 8) : 0;
	struct text path;

	if (!context || bpf_probe_read_user(&path, sizeof(path), (void *)(context + l->echo_path)))
		return 0;
	return call_it(ctx, NAME_ROUTE, path.at, path.size);
}

/* gorilla/mux: func requestWithRoute(r *http.Request, route *Route) *http.Request */
#define GORILLA_PATH 80 /* regexp.path of Route, which begins with its template */

int go_route_gorilla(struct pt_regs *ctx)
{
	__u64 regexp = 0;
	struct text template;

	if (GO_BEGINS_AGAIN(ctx) || bpf_probe_read_user(&regexp, sizeof(regexp), (void *)(GO_ARGUMENT_2(ctx) + GORILLA_PATH)) ||
	    !regexp ||
	    bpf_probe_read_user(&template, sizeof(template), (void *)regexp))
		return 0;
	return call_it(ctx, NAME_ROUTE, template.at, template.size);
}

#endif
