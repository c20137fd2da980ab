/* Whether the lists that the kernels follow stay inside of the arrays: paths, couplings, places and terms, parts. */
#include "reader.h"

#define EXPECT(holds, what) if (!NAME(expect)(r, holds, what)) return

static int rises(const int32_t *first, int64_t count, int64_t end)
{
    if (first[0] < 0 || first[count] > end) return 0;
    for (int64_t k = 0; k < count; k++)
        if (first[k + 1] < first[k]) return 0;
    return 1;
}

/* live: into the sums that matter to the energy alone */
void NAME(check_messages)(Reader *r, const Layer *layer, const Messages *m, int live)
{
    int64_t of[IRREPS], n = 0;
    for (int64_t s = 0; s < layer->n_sum; s++)
        if (!live || layer->sum[s].live) of[n++] = s;
    EXPECT(m->n_targets == n, "target_width");
    for (int64_t t = 0; t < n; t++)
        EXPECT(m->target_channels[t] == layer->collected[of[t]] && m->target_width[t] == layer->sum[of[t]].k * layer->collected[of[t]], "target_width");
    for (int64_t s = 0; s < layer->n_in; s++) EXPECT(m->source_width[s] == layer->in[s].k * layer->up[s].columns, "source_width");
    for (int64_t y = 0; y < N_Y(r->model); y++) EXPECT(m->first_coupling[y] <= m->first_coupling[y + 1], "first_coupling");
    for (int64_t q = 0; q < m->n_couplings; q++) {
        const Coupling *c = m->couplings + q;
        EXPECT(c->k >= 0 && c->k < m->n_k && c->y >= 0 && c->y < N_Y(r->model), "couplings");
    }
    for (int64_t q = 0; q < m->n_paths; q++) {
        const Path *p = m->paths + q;
        EXPECT(p->source >= 0 && p->source < layer->n_in && p->target >= 0 && p->target < n && p->l1 >= 0 && p->l3 >= 0, "paths");
        const int64_t in = layer->in[p->source].k, out = layer->sum[of[p->target]].k;
        EXPECT(2 * (int64_t)p->l1 + 1 == in && 2 * (int64_t)p->l3 + 1 == out && p->channels == layer->up[p->source].columns, "paths");
        EXPECT(p->r >= 0 && p->r + (int64_t)p->channels <= layer->radial_width, "paths");
        EXPECT(p->o >= 0 && p->o + (int64_t)p->channels <= layer->collected[of[p->target]], "paths");
        EXPECT(p->k < 0 ? in == out : p->k + in * out <= m->n_k, "paths");
    }
}

/* are components of irreps with so many components and channels where the places say? */
static int placed(const Place *at, int64_t count, const int64_t *components, const int64_t *channels, int64_t n, int64_t width)
{
    for (int64_t k = 0; k < count; k++) {
        if (at[k].tensor < 0 || at[k].tensor >= n) return 0;
        if (at[k].stride != components[at[k].tensor] * channels[at[k].tensor] || at[k].at < 0 || at[k].at + width > at[k].stride) return 0;
    }
    return 1;
}

void NAME(check_product)(Reader *r, const Layer *layer, int64_t o)
{
    const Order *order = layer->order + o;
    const int64_t width = order->channels;
    int64_t left[IRREPS], right[IRREPS], made[IRREPS], live[IRREPS], channels[IRREPS], of_made[IRREPS], of_live[IRREPS], n_live = 0;
    EXPECT(width == layer->order[0].channels && order->n_x <= MOST && order->n_y <= MOST, "channels");
    for (int64_t f = 0; f < IRREPS; f++) channels[f] = width;
    for (int64_t f = 0; f < order->n_right; f++) right[f] = layer->sum[layer->factor[order->right[f]]].k;
    for (int64_t f = 0; o && f < order->n_left; f++) left[f] = layer->order[o - 1].target[order->left[f]].k;
    for (int64_t f = 0; f < order->n_targets; f++) {
        made[f] = order->target[f].k, of_made[f] = order->target[f].c;
        if (order->target[f].live) live[n_live] = made[f], of_live[n_live++] = of_made[f];
    }
    EXPECT(placed(order->x_at, order->n_x, o ? left : right, channels, o ? order->n_left : order->n_right, width), "x_at");
    EXPECT(placed(order->y_at, order->n_y, right, channels, order->n_right, width), "y_at");
    EXPECT(placed(order->forward.g_at, order->forward.n_rows, made, of_made, order->n_targets, width), "forward.g_at");
    EXPECT(placed(order->backward.g_at, order->backward.n_rows, live, of_live, n_live, width), "backward.g_at");
    for (int backward = 0; backward < 2; backward++) {
        const Terms *terms = backward ? &order->backward : &order->forward;
        EXPECT(rises(terms->first_term, terms->n_rows, terms->n_terms), "first_term");
        for (int64_t q = 0; q < terms->n_terms; q++) {
            const Term *e = terms->terms + q;
            EXPECT(e->k1 >= 0 && e->k1 < order->n_x && e->k2 >= 0 && e->k2 < (o ? order->n_y : order->n_x), "terms");
        }
    }
}

/* is every part of an output an array of its width? */
void NAME(check_parts)(Reader *r, const Layer *layer)
{
    for (int64_t o = 0; o < layer->n_out; o++) {
        EXPECT(layer->first_part[o + 1] > layer->first_part[o], "parts");
        for (int64_t q = layer->first_part[o]; q < layer->first_part[o + 1]; q++) {
            const Part *part = layer->part + q;
            const int64_t power = part->kind - POWER;
            EXPECT(power < layer->n_order, "parts");
            const int64_t n = part->kind == SUM ? layer->n_sum : part->kind == SKIP ? layer->n_in : layer->order[power].n_targets;
            EXPECT(part->index < n, "parts");
            const Irrep *of = (part->kind == SUM ? layer->sum : part->kind == SKIP ? layer->in : layer->order[power].target) + part->index;
            EXPECT(of->k == layer->out[o].k && of->c == part->width, "parts");
        }
    }
}
