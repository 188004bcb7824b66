/* print.c: the tables as mermaid state diagrams. */
#include "saga/machine/table.h"

/* The rows of either table, as far as a drawing needs them. */
struct drawing {
    size_t state_count;
    int first_state;
    uint32_t ended;
    const char *(*state_name)(int state);
    const char *(*event_name)(int event);
    int event_count;
    /* The events by which a row leads from one state to another. */
    uint32_t (*events)(int from, int to);
};

static const char *step_name(int state)
{
    return step_state_name((enum step_state)state);
}

static const char *step_event(int event)
{
    return step_event_name((enum step_event)event);
}

static const char *saga_name(int state)
{
    return saga_state_name((enum saga_state)state);
}

static const char *saga_event(int event)
{
    return saga_event_name((enum saga_event)event);
}

static uint32_t step_events(int from, int to)
{
    size_t count;
    MACHINE_ROWS struct step_row *rows = step_rows(&count);
    uint32_t events = 0;
    for (size_t i = 0; i < count; i++) {
        if ((rows[i].states & VALUE_BIT(from)) && rows[i].next == to)
            events |= rows[i].events;
    }
    return events;
}

static uint32_t saga_events(int from, int to)
{
    size_t count;
    MACHINE_ROWS struct saga_row *rows = saga_rows(&count);
    uint32_t events = 0;
    /* The last row, of what cannot be, would lead from everywhere to STUCK. */
    for (size_t i = 0; i + 1 < count; i++) {
        if ((rows[i].states & VALUE_BIT(from)) && rows[i].next == to)
            events |= rows[i].events;
    }
    return events;
}

static void print_edge(const struct drawing *drawing, int from, int to, FILE *out)
{
    uint32_t events = drawing->events(from, to);
    if (events == 0 || from == to)
        return;
    fprintf(out, "    %s --> %s: ", drawing->state_name(from), drawing->state_name(to));
    const char *comma = "";
    for (int event = 0; event < drawing->event_count; event++) {
        if (events & VALUE_BIT(event)) {
            fprintf(out, "%s%s", comma, drawing->event_name(event));
            comma = ", ";
        }
    }
    fprintf(out, "\n");
}

static void print_drawing(const struct drawing *drawing, FILE *out)
{
    int count = (int)drawing->state_count;
    fprintf(out, "```mermaid\nstateDiagram-v2\n    direction LR\n    [*] --> %s\n",
            drawing->state_name(drawing->first_state));
    for (int from = 0; from < count; from++) {
        for (int to = 0; to < count; to++)
            print_edge(drawing, from, to, out);
    }
    for (int state = 0; state < count; state++) {
        if (drawing->ended & VALUE_BIT(state))
            fprintf(out, "    %s --> [*]\n", drawing->state_name(state));
    }
    fprintf(out, "```\n");
}

void machine_print_mermaid(FILE *out)
{
    const struct drawing saga = {SAGA_STATE_COUNT, SAGA_RUNNING,     SAGA_STATES_ENDED, saga_name,
                                 saga_event,       SAGA_EVENT_COUNT, saga_events};
    const struct drawing step = {STEP_STATE_COUNT, STEP_WAITING,     0,          step_name,
                                 step_event,       STEP_EVENT_COUNT, step_events};
    fprintf(out, "A saga:\n\n");
    print_drawing(&saga, out);
    fprintf(out, "\nA step:\n\n");
    print_drawing(&step, out);
}
