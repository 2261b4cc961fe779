/* A unit of Lite- or MDW-HRNet in evaluation mode, all its branches in one call: for one picture, what surrounds a kernel of
   kernels.c costs more than the kernel. Structures are mirrored field by field in units.py. */
#include "kernels.c"

enum { PARTS = 4, BRANCHES = 4, KERNELS = 8 }; /* the most of each */

typedef struct { /* times * sigmoid(excite . [relu] [norm] (squeeze . v)); matrices (hidden, in) and (in, hidden) */
    int in, hidden, relu;
    const real *squeeze, *squeeze_bias, *norm, *norm_bias, *excite, *excite_bias;
    double eps, times;
} Gate;

typedef struct { /* convolutions of `parts` runs of channels, each with its size, bank, bias and gates; then a gate for each channel */
    int channels, parts, relu, attended;
    int width[PARTS], size[PARTS], kernels[PARTS], reach[PARTS];
    const real *bank[PARTS], *shift[PARTS], *along[PARTS], *to[PARTS]; /* without `along` there is one kernel and no gate */
    const real *position; /* what weights positions for the gate, or 0 for their mean */
    Gate gate;            /* `attended` says whether there is one */
} Branch;

typedef struct {
    int branches, mode, gated, total; /* of the gate over positions: how it is enlarged, whether it is there, its channels */
    Gate gate;
    Branch branch[BRANCHES];
} Unit;

static real bias_of(const real *bias, int i) { return bias ? bias[i] : 0; }

static void norm_of(const Gate *g, real *v, int step) { /* over `hidden` values, `step` apart */
    double sum = 0, square = 0;
    for (int i = 0; i < g->hidden; i++) sum += v[i * step];
    double mean = sum / g->hidden;
    for (int i = 0; i < g->hidden; i++) square += (v[i * step] - mean) * (v[i * step] - mean);
    real m = mean, k = 1 / sqrt(square / g->hidden + g->eps);
    for (int i = 0; i < g->hidden; i++) v[i * step] = (v[i * step] - m) * k * g->norm[i] + g->norm_bias[i];
}

static void middle(const Gate *g, real *v, int step) {
    if (g->norm) norm_of(g, v, step);
    for (int i = 0; g->relu && i < g->hidden; i++) v[i * step] = v[i * step] < 0 ? 0 : v[i * step];
}

static void gate_of_vector(const Gate *g, const real *v, real *hidden, real *out) {
    for (int i = 0; i < g->hidden; i++)
        hidden[i] = weighted_sum(g->squeeze + i * g->in, v, g->in) + bias_of(g->squeeze_bias, i);
    middle(g, hidden, 1);
    for (int i = 0; i < g->in; i++) {
        real s = bias_of(g->excite_bias, i);
        for (int j = 0; j < g->hidden; j++) s += g->excite[i * g->hidden + j] * hidden[j];
        out[i] = (real)g->times * sigmoid(s);
    }
}

/* rows of matrix (rows, in) times planes (in, n), n a multiple of LANES */
static void product(const real *matrix, int in, const real *planes, int n, int rows, const real *bias, real *out) {
    for (int at = 0; at < n; at += LANES) tiles(matrix, in, 1, planes + at, n, in, out + at, n, bias, 0, rows, 1);
}

typedef struct { /* scratch of one branch for all pictures, and its enlargement */
    int n, f;
    real *gated, *pooled, *middle, *kernel_gates, *context, *where, *hidden, *factor;
    Axis y, x;
} Work;

static void unit_of(const Unit *u, const real *const *x, real *const *y, const int *h, const int *w, int N) {
    int last = u->branches - 1, low = h[last] * w[last], padded = (low + LANES - 1) / LANES * LANES;
    i64 values = 0, needed = 0;
    Work work[BRANCHES];
    for (int i = 0; i <= last; i++) {
        const Branch *b = u->branch + i;
        Work *k = work + i;
        i64 C = b->channels;
        *k = (Work){h[i] * w[i], h[i] / h[last]};
        if (u->gated) k->y = axis(h[last], h[i], u->mode), k->x = axis(w[last], w[i], u->mode);
        values += N * C * k->n;
        needed += N * (C * (u->gated ? k->n : 0) + C * (4 + KERNELS) + k->n + b->gate.hidden);
    }
    needed += (i64)N * (2 * u->total + u->gate.hidden) * padded;
    real *scratch = malloc(needed * sizeof(real)), *next = scratch;
    for (int i = 0; i <= last; i++) {
        Work *k = work + i;
        i64 C = (i64)N * u->branch[i].channels;
        k->gated = next, next += u->gated ? C * k->n : 0;
        k->pooled = next, next += C;
        k->middle = next, next += C;
        k->kernel_gates = next, next += KERNELS * C;
        k->context = next, next += C;
        k->factor = next, next += C;
        k->where = next, next += (i64)N * k->n;
        k->hidden = next, next += (i64)N * u->branch[i].gate.hidden;
    }
    real *means = next, *hidden = means + (i64)N * u->total * padded, *maps = hidden + (i64)N * u->gate.hidden * padded;
#pragma omp parallel if (values > 20000)
    {
        int widest = 0, highest = 0, phases_size = 0;
        for (int i = 0; i <= last; i++) {
            widest = w[i] > widest ? w[i] : widest, highest = h[last] * w[i] > highest ? h[last] * w[i] : highest;
            for (int p = 0; p < u->branch[i].parts; p++) {
                int size = u->branch[i].size[p];
                Geometry g = geometry(h[i], w[i], size, 1, (size - 1) / 2);
                int wanted = g.phase + ROUND(g.line) + 4 * LANES;
                phases_size = wanted > phases_size ? wanted : phases_size;
            }
        }
        real *wide = malloc((highest + widest + phases_size) * sizeof(real)), *row = wide + highest, *phases = row + widest;
        /* the gate for every channel and position, from all branches at the lowest resolution */
        for (int i = 0, first = 0; u->gated && i <= last; first += u->branch[i++].channels) {
            int C = u->branch[i].channels;
#pragma omp for schedule(static) nowait
            for (i64 t = 0; t < (i64)N * C; t++) {
                real *to = means + (t / C * u->total + first + t % C) * padded;
                plane_means(x[i] + (t / C * 2 * C + C + t % C) * work[i].n, h[i], w[i], work[i].f, row, to);
                for (int c = low; c < padded; c++) to[c] = 0;
            }
        }
        if (u->gated) {
            int in = u->total, rows = u->gate.hidden;
#pragma omp barrier
#pragma omp for schedule(static)
            for (int b = 0; b < N; b++) {
                real *mid = hidden + (i64)b * rows * padded;
                product(u->gate.squeeze, in, means + (i64)b * in * padded, padded, rows, u->gate.squeeze_bias, mid);
                for (int c = 0; c < padded; c++) middle(&u->gate, mid + c, padded);
            }
            int runs = (in + 11) / 12;
#pragma omp for schedule(static)
            for (i64 t = 0; t < (i64)N * runs; t++) {
                int b = t / runs, from = t % runs * 12, count = in - from < 12 ? in - from : 12;
                real *to = maps + ((i64)b * in + from) * padded;
                const real *shift = u->gate.excite_bias;
                product(u->gate.excite + from * rows, rows, hidden + (i64)b * rows * padded, padded, count, shift ? shift + from : 0, to);
                for (int c = 0; c < count * padded; c++) to[c] = (real)u->gate.times * sigmoid(to[c]);
            }
        }
        /* times it; what the kernels' gates are made from */
        for (int i = 0, first = 0; i <= last; first += u->branch[i++].channels) {
            Work *k = work + i;
            int C = u->branch[i].channels, n = k->n, W = w[i];
#pragma omp for schedule(static) nowait
            for (i64 t = 0; t < (i64)N * C; t++) {
                const real *from = x[i] + (t / C * 2 * C + C + t % C) * n;
                if (u->gated) {
                    real *to = k->gated + t * n;
                    const real *gate = maps + (t / C * u->total + first + t % C) * padded;
                    if (i < last) {
                        widen(gate, &k->y, &k->x, wide);
                        for (int r = 0; r < h[i]; r++) spread_row(from + r * W, wide, &k->y, W, r, to + r * W);
                    } else
                        for (int c = 0; c < n; c++) to[c] = from[c] * gate[c];
                    from = to;
                }
                k->pooled[t] = plane_sum(from, n) / n;
            }
        }
#pragma omp barrier
        for (int i = 0; i <= last; i++) {
            const Branch *b = u->branch + i;
            for (int p = 0, first = 0; p < b->parts; first += b->width[p++]) {
                if (!b->along[p]) continue;
#pragma omp for schedule(static) nowait
                for (int e = 0; e < N; e++) {
                    i64 at = (i64)e * b->channels + first;
                    line_gates_forward(work[i].pooled + at, 1, b->width[p], b->along[p], b->reach[p], b->to[p], b->kernels[p],
                                       work[i].middle + at, work[i].kernel_gates + KERNELS * at);
                }
            }
        }
#pragma omp barrier
        /* the convolutions, to where their results belong */
        for (int i = 0; i <= last; i++) {
            const Branch *b = u->branch + i;
            Work *k = work + i;
            int C = b->channels, n = k->n;
            for (int p = 0, first = 0; p < b->parts; first += b->width[p++]) {
                int size = b->size[p], taps = size * size, width = b->width[p];
                Geometry g = geometry(h[i], w[i], size, 1, (size - 1) / 2);
                real *line = phases + g.phase, kernel[TAPS];
                memset(phases, 0, (g.phase + ROUND(g.line) + 4 * LANES) * sizeof(real));
#pragma omp for schedule(static) nowait
                for (i64 t = 0; t < (i64)N * width; t++) {
                    int e = t / width, c = t % width, place = dealt((Deal){b->parts, p, b->width[b->parts - 1]}, c);
                    i64 at = (i64)e * C + first + c;
                    const real *whole = x[i] + (i64)e * 2 * C * n;
                    real *to = y[i] + ((i64)e * 2 * C + 2 * place) * n;
                    const real *gates = b->along[p] ? k->kernel_gates + KERNELS * ((i64)e * C + first) + c : 0;
                    mix(b->bank[p] + (i64)c * taps, (i64)width * taps, gates, width, b->kernels[p], taps, kernel);
                    memcpy(to, whole + (i64)place * n, n * sizeof(real));
                    to += n;
                    convolve(&g, u->gated ? k->gated + at * n : whole + (i64)(C + first + c) * n, kernel, phases, line, to);
                    affine(to, to, n, 1, bias_of(b->shift[p], c), b->relu);
                    if (b->attended && !b->position) k->context[(i64)e * C + place] = plane_sum(to, n) / n;
                }
            }
        }
#pragma omp barrier
        /* the gate of every channel: positions' weights, sums by them, and the product */
        for (int i = 0; i <= last; i++) {
            const Branch *b = u->branch + i;
            int C = b->channels, n = work[i].n, run = 512, runs = (n + run - 1) / run;
            if (!b->attended || !b->position) continue;
#pragma omp for schedule(static) nowait
            for (i64 t = 0; t < (i64)N * runs; t++) {
                int e = t / runs, from = t % runs * run, count = n - from < run ? n - from : run;
                scores(y[i] + ((i64)e * 2 * C + 1) * n + from, 2 * n, C, count, b->position, work[i].where + (i64)e * n + from);
            }
        }
#pragma omp barrier
        for (int i = 0; i <= last; i++) {
            if (!u->branch[i].attended || !u->branch[i].position) continue;
#pragma omp for schedule(static) nowait
            for (int e = 0; e < N; e++) softmax(work[i].where + (i64)e * work[i].n, work[i].n);
        }
#pragma omp barrier
        for (int i = 0; i <= last; i++) {
            int C = u->branch[i].channels, n = work[i].n;
            if (!u->branch[i].attended || !u->branch[i].position) continue;
#pragma omp for schedule(static) nowait
            for (i64 t = 0; t < (i64)N * C; t++)
                work[i].context[t] = weighted_sum(y[i] + (t / C * 2 * C + 2 * (t % C) + 1) * n, work[i].where + t / C * n, n);
        }
#pragma omp barrier
        for (int i = 0; i <= last; i++) {
            const Branch *b = u->branch + i;
            if (!b->attended) continue;
#pragma omp for schedule(static) nowait
            for (int e = 0; e < N; e++)
                gate_of_vector(&b->gate, work[i].context + (i64)e * b->channels, work[i].hidden + (i64)e * b->gate.hidden,
                               work[i].factor + (i64)e * b->channels);
        }
#pragma omp barrier
        for (int i = 0; i <= last; i++) {
            int C = u->branch[i].channels, n = work[i].n;
            if (!u->branch[i].attended) continue;
#pragma omp for schedule(static) nowait
            for (i64 t = 0; t < (i64)N * C; t++) {
                real *v = y[i] + (t / C * 2 * C + 2 * (t % C) + 1) * n, g = work[i].factor[t];
                for (int j = 0; j < n; j++) v[j] *= g;
            }
        }
        free(wide);
    }
    free(scratch);
    for (int i = 0; u->gated && i <= last; i++) forget(work[i].y), forget(work[i].x);
}

/* x[b], y[b]: (N, 2C, h[b], w[b]); y gets the untouched first half of x and the worked second half, shuffled. Many pictures are
   taken one by one, whose maps then stay in the cache of the core that works on it. */
void unit(const void *packed, const void *xs, const void *ys, const int *h, const int *w, int N) {
    const Unit *u = packed;
    const real *const *x = xs;
    real *const *y = ys;
    if (N < 4) { unit_of(u, x, y, h, w, N); return; }
#pragma omp parallel for schedule(static)
    for (int e = 0; e < N; e++) {
        const real *from[BRANCHES];
        real *to[BRANCHES];
        for (int i = 0; i < u->branches; i++) {
            i64 at = (i64)e * 2 * u->branch[i].channels * h[i] * w[i];
            from[i] = x[i] + at, to[i] = y[i] + at;
        }
        unit_of(u, from, to, h, w, 1);
    }
}
