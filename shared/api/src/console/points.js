// Points of an index: pages and samples.

const pointTable = (index, caption, points) => table(caption, columnsOf(index, points), points);

const showPoints = (place, index) => {
  const choose = restriction(index);
  const results = el("div");
  const seed = input({ type: "number", min: 0, step: 1, value: 0 });
  const page = after =>
    fill(results, "Reading points…", async () => {
      const { body } = await ask(ROUTES.points, index.id, { limit: PAGE, after, ...choose.read() });
      announce(counted(body.points.length, "point"));
      if (body.points.length === 0) return quiet("There are none.");
      return [
        pointTable(index, after ? "The next, by id" : "The first, by id", body.points),
        el(
          "p",
          { class: "row" },
          after && button("From the start", () => page()),
          body.next && button("Next", () => page(body.next)),
        ),
      ];
    });
  const draw = () =>
    fill(results, "Drawing a sample…", async () => {
      const { splitFilter, filter } = choose.read();
      const raw = text => (text === undefined ? undefined : new Raw(text));
      const body = bodyText({
        n: PAGE,
        seed: numberOf("The seed", seed.value) ?? 0,
        splitFilter: raw(splitFilter),
        filter: raw(filter),
        retrieveVectors: false,
      });
      const { body: sample } = await ask(ROUTES.sample, index.id, {}, body);
      announce(counted(sample.points.length, "point"));
      if (sample.points.length === 0) return quiet("There are none.");
      return pointTable(
        index,
        `Drawn from ${counted(sample.population, "point")}, each as likely as any other; the same seed draws the same`,
        sample.points,
      );
    });
  put(
    place,
    el(
      "form",
      { class: "sheet", submit: onSubmit(() => page()) },
      folded("Restrict", el("div", { class: "fields" }, choose.fields)),
      el(
        "div",
        { class: "row" },
        button("The first", undefined, "main"),
        button("A sample", draw),
        field("Seed of the sample", seed),
      ),
    ),
    results,
  );
  page();
};
