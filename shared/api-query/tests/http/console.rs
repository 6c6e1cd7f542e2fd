//! The console's script, run by a JavaScript engine on as much of a document as it uses (`console/dom.js`). What it asks is
//! answered by the router: script and API must agree.

use axum::body::Body;
use axum::http::Method;
use rquickjs::{CatchResultExt, Context, FromJs, Runtime};
use serde_json::{Value, json};
use tarn_api::{ApiSettings, AuthMode, Grant, create_key};

use crate::server::Server;

/// A console that was opened.
struct Console<'a> {
    server: &'a Server,
    runtime: Runtime,
    context: Context,
}

impl<'a> Console<'a> {
    /// At a place, with all that it asks answered.
    async fn open(server: &'a Server, hash: &str) -> Console<'a> {
        let console = Self::begun(server, hash).await;
        console.settle().await;
        console
    }

    /// At a place, with nothing answered yet.
    async fn begun(server: &'a Server, hash: &str) -> Console<'a> {
        let page = page(server).await;
        let runtime = Runtime::new().unwrap();
        let context = Context::full(&runtime).unwrap();
        let console = Self { server, runtime, context };
        console.run(include_str!("console/dom.js"));
        for id in ids(&page) {
            console.run(&format!("grown('{id}')"));
        }
        console.run(&format!("window.location.hash = {}", json!(hash)));
        console.run(script(&page));
        console
    }

    fn run(&self, code: &str) {
        self.eval::<Option<bool>>(&format!("{code}\n;undefined"));
    }

    fn eval<T: for<'js> FromJs<'js>>(&self, code: &str) -> T {
        self.context.with(|context| {
            let done = context.eval::<T, _>(code).catch(&context);
            done.unwrap_or_else(|error| panic!("{error}\n{code:.300}"))
        })
    }

    fn json(&self, expression: &str) -> Value {
        serde_json::from_str(&self.eval::<String>(&format!("JSON.stringify({expression}) ?? 'null'"))).unwrap()
    }

    fn text(&self) -> String {
        self.eval("main().textContent")
    }

    /// Runs the script and answers what it asks, until it asks no more.
    async fn settle(&self) {
        loop {
            while self.runtime.execute_pending_job().unwrap_or_else(|_| panic!("a promise of the script failed")) {}
            let asked: Vec<Value> = serde_json::from_str(&self.eval::<String>("taken()")).unwrap();
            if asked.is_empty() {
                break;
            }
            for request in asked {
                let method: Method = request["method"].as_str().unwrap().parse().unwrap();
                let path = format!("/{}", request["url"].as_str().unwrap());
                let headers: Vec<(&str, &str)> = request["headers"]
                    .as_object()
                    .unwrap()
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
                    .collect();
                let body = request["body"].as_str().map_or(Body::empty(), |body| Body::from(body.to_owned()));
                let answer = self.server.request(method, &path, &headers, body).await;
                let headers: Value = answer
                    .headers
                    .iter()
                    .map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap())))
                    .collect();
                self.run(&format!(
                    "answered({}, {}, {headers}, {})",
                    request["at"],
                    answer.status.as_u16(),
                    json!(answer.text())
                ));
            }
        }
        assert_eq!(self.json("faults"), json!([]));
    }

    async fn act(&self, code: &str) {
        self.run(&format!("void ({code})"));
        self.settle().await;
    }
}

async fn page(server: &Server) -> String {
    let answer = server.get("/").await;
    assert_eq!(answer.status, 200);
    answer.text()
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    text.split_once(start).unwrap().1.split_once(end).unwrap().0
}

/// Of the elements of the page.
fn ids(page: &str) -> Vec<&str> {
    let markup = page.split_once("<script>").unwrap().0;
    markup.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

fn script(page: &str) -> &str {
    between(page, "<script>", "</script>")
}

#[tokio::test]
async fn every_route_of_the_script_is_in_the_document() {
    let server = Server::new();
    let page = page(&server).await;
    let document = server.get("/openapi.json").await.json();
    let mut routes = 0;
    for method in ["GET", "PUT", "POST", "DELETE"] {
        for rest in script(&page).split(&format!("\"{method} /")).skip(1) {
            let path = format!("/{}", rest.split('"').next().unwrap());
            assert!(document["paths"][&path].get(method.to_lowercase()).is_some(), "{method} {path}");
            routes += 1;
        }
    }
    assert!(routes >= 12, "{routes}");
    // There is no other way out.
    assert_eq!(script(&page).matches("api/v1").count(), routes - 1, "one of them is /_status/version");
    assert_eq!(script(&page).matches("fetch(").count(), 1);
}

#[tokio::test]
async fn the_script_finds_what_it_looks_for_and_makes_no_markup_of_text() {
    let page = page(&Server::new()).await;
    let (ids, script) = (ids(&page), script(&page));
    let mut looked_for: Vec<&str> =
        script.split("byId(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    looked_for.sort_unstable();
    looked_for.dedup();
    assert!(looked_for.len() >= 5, "{looked_for:?}");
    for id in looked_for {
        assert_eq!(ids.iter().filter(|&&it| it == id).count(), 1, "{id}");
    }
    for way in [
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
        "srcdoc",
        "DOMParser",
        "createContextualFragment",
        "localStorage",
    ] {
        assert!(!script.contains(way), "{way}");
    }
}

#[tokio::test]
async fn what_the_script_knows_by_itself() {
    let server = Server::new();
    let console = Console::begun(&server, "").await;
    let dense = "{types: {id: 'Int64', t: 'String'}, sparse: false, dimension: 2}";
    let form = |more: &str| {
        format!("JSON.parse(searchOf({{by: 'vector', vector: '1, 2', like: {{}}, splits: {{}}, filter: '', k: '3', {more}}}, {dense}))")
            .replace("{by: 'vector'", "{deadlineMs: '', asOf: '', by: 'vector'")
    };
    let vector = json!([{"isSparse": false, "coordinates": [1, 2]}]);
    let cases = [
        // Places.
        ("placeOf('')".to_owned(), json!({"view": "store"})),
        ("placeOf('#/indices/a')".to_owned(), json!({"view": "store"})),
        ("['#/indices/../x', '#/indices/a/%2e%2E', '#/indices/./1'].map(hash => placeOf(hash).view)".to_owned(), json!(["store", "store", "store"])),
        ("placeOf('#/indices/.a/...').version".to_owned(), json!("...")),
        ("textOf({string: {toString: 1}})".to_owned(), json!("{\"toString\":1}")),
        ("placeOf('#/indices/%E0/1')".to_owned(), json!({"view": "store"})),
        ("placeOf('#/indices/a/1/nothing')".to_owned(), json!({"view": "index", "name": "a", "version": "1", "tab": "search"})),
        ("placeOf('#/indices/a/1/constructor').tab".to_owned(), json!("search")),
        ("placeOf('#/indices/a/1/search?like=nonsense').like".to_owned(), json!(null)),
        (
            "placeOf(hashOf({name: 'a/b?&#', version: 'ü 1'}, 'points', {like: [{key: '=&', value: {string: '%'}}]}))".to_owned(),
            json!({"view": "index", "name": "a/b?&#", "version": "ü 1", "tab": "points", "like": [{"key": "=&", "value": {"string": "%"}}]}),
        ),
        // Requests.
        (
            "requestOf(ROUTES.points, {name: 'a/..', version: '1'}, {limit: 5, after: undefined, filter: '{\"a\": 1}', tail: false})".to_owned(),
            json!({"method": "GET", "url": "api/v1/indices/a%2F../1/points?limit=5&filter=%7B%22a%22%3A%201%7D"}),
        ),
        (
            "curlOf('http://h/', {method: 'POST', url: 'x', body: \"it's\"}, true)".to_owned(),
            json!("curl -X POST 'http://h/x' \\\n  -H \"X-Api-Key: $TARN_API_KEY\" \\\n  -H 'Content-Type: application/json' \\\n  -d 'it'\\''s'"),
        ),
        // Numbers that a float does not hold.
        (r#"parseJson('{"int64":9007199254740993}')"#.to_owned(), json!({"int64": "9007199254740993"})),
        (r#"parseJson('[{"int64": -9223372036854775808}, {"int64":12}]')"#.to_owned(), json!([{"int64": "-9223372036854775808"}, {"int64": 12}])),
        (r#"parseJson('{"string":"\\"int64\\":9007199254740993"}').string"#.to_owned(), json!("\"int64\":9007199254740993")),
        ("valueOf('id', 'Int64', ' 9007199254740993 ')".to_owned(), json!({"int64": "9007199254740993"})),
        ("valueOf('id', 'Int64', '-7')".to_owned(), json!({"int64": -7})),
        ("valueOf('s', 'String', ' a ')".to_owned(), json!({"string": " a "})),
        ("valueOf('b', 'Bool', 'TRUE')".to_owned(), json!({"bool": true})),
        ("textOf({bool: false}) + textOf({int64: 0}) + textOf(undefined)".to_owned(), json!("false0")),
        ("typesOf([{key: 'a', value: {dateTime: 'x'}}, {key: 'b', value: {guid: 'y'}}])".to_owned(), json!({"a": "DateTime", "b": "Guid"})),
        // Vectors.
        ("vectorOf(' 1, -2.5e1;3 ', false, 3)".to_owned(), json!({"isSparse": false, "coordinates": [1, -25, 3]})),
        ("vectorOf('[0.1, 2]', false)".to_owned(), json!({"isSparse": false, "coordinates": [0.1, 2]})),
        ("vectorOf('17:1 4031:0.5', true)".to_owned(), json!({"isSparse": true, "coordinates": [1, 0.5], "coordinateIndices": [17, 4031]})),
        // Searches.
        (form(""), json!({"queryVectors": vector, "k": 3, "retrieveVectors": false})),
        (
            form("splits: {t: 'x', u: ''}, score: 'CosineSimilarity', direction: 'lower', groupBy: 't', groupLimit: '2', deadlineMs: '5', effort: 'recall', targetRecall: '0.9', consistency: 'eventual', asOf: '4', explain: true"),
            json!({"queryVectors": vector, "k": 3, "splitFilter": [{"key": "t", "value": {"string": "x"}}], "score": "CosineSimilarity", "higherIsBetter": false,
                "groupBy": "t", "groupLimit": 2, "deadlineMs": 5, "targetRecall": 0.9, "consistency": "eventual", "asOf": 4, "explain": true, "retrieveVectors": false}),
        ),
        (form("by: 'point', like: {id: '5', t: ''}, effort: 'exact'"), json!({"queryVectors": [], "queryIds": [[{"key": "id", "value": {"int64": 5}}]], "k": 3, "exact": true, "retrieveVectors": false})),
        (format!("searchOf({{by: 'point', like: {{id: '5'}}, splits: {{}}, filter: ' {{\"eq\": 9007199254740993}} ', k: '', deadlineMs: '', asOf: ''}}, {dense})"),
            json!("{\"queryVectors\": [], \"queryIds\": [[{\"key\":\"id\",\"value\":{\"int64\":5}}]], \"k\": 10, \"filter\": {\"eq\": 9007199254740993}, \"retrieveVectors\": false}")),
        // Words.
        ("[0, 999, 1000, 1234567].map(count)".to_owned(), json!(["0", "999", "1,000", "1,234,567"])),
        ("[0, 999, 1500, 28600000, 5e12].map(bytesText)".to_owned(), json!(["0 B", "999 B", "1.50 kB", "28.6 MB", "5.00 TB"])),
        ("[0.0124, 3.2049, 1500, 90000, 600000, 1e7, 1e9].map(msText)".to_owned(), json!(["12 µs", "3.2 ms", "1.5 s", "90 s", "10 min", "2.78 h", "11.6 days"])),
        ("[1, 0.999999, 0.57, 0].map(percent)".to_owned(), json!(["100 %", "99.99 %", "57 %", "0 %"])),
        ("[0, 0.0000217].map(dollarsText)".to_owned(), json!(["$0", "$21.7 a million"])),
        ("freshness({lagDeltas: 0, lagMs: 0}) + '; ' + freshness({lagDeltas: 1, lagMs: 2000})".to_owned(), json!("all built; 1 upload to build, for 2 s")),
        ("recallText([{filter: 'splitAndFilter', recall: 0.987, queries: 1}])".to_owned(), json!(["98.7 % (split and filter) of 1 query"])),
        ("shares([-2, 1, 0])".to_owned(), json!([1, 0.5, 0])),
        ("shares([0, 0])".to_owned(), json!([0, 0])),
        // Receipts.
        ("serverTiming('snapshot;dur=1.5, total;dur=3')".to_owned(), json!({"snapshot": 1.5, "total": 3})),
        ("serverTiming(null)".to_owned(), json!({})),
        (
            "waterfall({snapshot: 1, open: 0, search: 2, total: 4})".to_owned(),
            json!({"lanes": [{"name": "snapshot", "ms": 1, "from": 0, "share": 0.25}, {"name": "search", "ms": 2, "from": 0.25, "share": 0.5},
                {"name": "rest", "ms": 1, "from": 0.75, "share": 0.25}], "total": 4, "overlap": false}),
        ),
        ("waterfall({cells: 3, rows: 3, total: 4}).lanes.map(({from, share}) => from + share)".to_owned(), json!([0.5, 1])),
        ("[waterfall({cells: 3, rows: 3, total: 4}).overlap, waterfall({total: 0}).lanes]".to_owned(), json!([true, []])),
        (
            "histogramOf({binWidth: 0.5, bins: [0, 3, 1, 0]}, {binWidth: 0.5, bins: [0, 0, 0, 2]})".to_owned(),
            json!([{"from": 0, "to": 0.5, "points": 0, "share": 0, "earlier": 0}, {"from": 0.5, "to": 1, "points": 3, "share": 0.75, "earlier": 0},
                {"from": 1, "to": 1.5, "points": 1, "share": 0.25, "earlier": 0}, {"from": 1.5, "to": 2, "points": 0, "share": 0, "earlier": 1}]),
        ),
        ("histogramOf({binWidth: 1, bins: [4, 0]}, {binWidth: 2, bins: [1, 1]})".to_owned(), json!([{"from": 0, "to": 1, "points": 4, "share": 1}])),
    ];
    for (expression, expected) in cases {
        let found = console.json(&expression);
        assert_eq!(numbers(found), numbers(expected), "{expression}");
    }
    for (expression, message) in [
        ("valueOf('id', 'Int64', '1.5')", "id: a whole number is wanted, such as 42"),
        ("valueOf('f', 'Float64', '')", "f: a number is wanted, such as 0.5"),
        ("vectorOf('', false, 2)", "A vector is numbers, such as 0.1, 0.2"),
        ("vectorOf('1, x', false, 2)", "A vector is numbers, such as 0.1, 0.2"),
        ("vectorOf('1', false, 2)", "The vector has 1 coordinates; the index wants 2"),
        ("vectorOf('[1', false, 2)", "The vector is no JSON"),
        ("vectorOf('1:', true)", "A sparse vector is index:value pairs, such as 17:1 4031:0.5"),
        ("vectorOf('[1, 2]', true)", "The index is of sparse vectors"),
        ("jsonOf('The filter', '{')", "The filter is no JSON"),
        ("numberOf('k', 'many')", "k is no number"),
        ("searchOf({by: 'point', like: {id: ''}, splits: {}}, {types: {}})", "Name a stored point, or paste a vector"),
    ] {
        let said: String = console.eval(&format!(
            "(() => {{ try {{ {expression}; return 'nothing'; }} catch (error) {{ return error.message; }} }})()"
        ));
        assert!(said.starts_with(message), "{expression}: {said}");
    }
}

/// JavaScript writes 1 where Rust writes 1.0.
fn numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(values) => values.into_iter().map(numbers).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, numbers(value))).collect(),
        other => other,
    }
}

#[tokio::test]
async fn an_empty_store_is_told_what_makes_something_to_look_at() {
    let server = Server::new();
    let console = Console::open(&server, "").await;
    assert!(console.text().contains("The store is empty"), "{}", console.text());
    assert!(console.text().contains("curl -X PUT 'http://tarn.test/api/v1/data-sources/docs/1.0'"));
    for step in console.json("firstSteps()").as_array().unwrap() {
        let request = &step["request"];
        let (method, path) = (request["method"].as_str().unwrap(), format!("/{}", request["url"].as_str().unwrap()));
        let json = [("content-type", "application/json")];
        let body = request["body"].as_str().unwrap().to_owned();
        let answer = server.request(method.parse().unwrap(), &path, &json, body).await;
        assert!(answer.status.is_success(), "{}", answer.text());
    }
    let console = Console::open(&server, "#/indices/docs/1.0/search").await;
    console.act("type('Coordinates', '1 0.5')").await;
    console.act("shownIn('label', 'A vector')[0].children[0].dispatch('change')").await;
    console.act("submit()").await;
    assert_eq!(console.json("rows().map(row => row[1])"), json!(["a", "c", "b"]));
}

#[tokio::test]
async fn the_store_lists_what_there_is() {
    let server = Server::with_points().await;
    let console = Console::open(&server, "").await;
    let text = console.text();
    assert_eq!(
        console.json("shownIn('a', 'nearest').map(link => link.attributes.href)[0]"),
        "#/indices/nearest/1/search"
    );
    for said in ["FaissIndex.L2", "never built", "1 upload to build", "dense, 2", "id Int64"] {
        assert!(text.contains(said), "{said} in {text}");
    }
    assert!(!text.contains('…'), "{text}");
}

#[tokio::test]
async fn a_long_list_comes_in_pages() {
    let server = Server::new();
    for number in 0..45 {
        let source =
            json!({"vectorDimension": 2, "attributeValueTypes": {"id": "Int64"}, "permanentAttributes": ["id"]});
        server.define(&format!("data-sources/s{number:02}/1"), &source).await;
    }
    let console = Console::open(&server, "").await;
    for shown in ["s19", "s39", "s44"] {
        assert!(console.text().contains(shown), "{}", console.text());
        console.act("shownIn('button', 'More').forEach(button => button.dispatch('click'))").await;
    }
    assert_eq!(console.json("shownIn('tr', 'dense').length"), 45);
    assert_eq!(console.json("shownIn('button', 'More').length"), 0);
}

#[tokio::test]
async fn more_like_this_searches_by_a_listed_point_and_shows_the_receipt() {
    let server = Server::with_points().await;
    let console = Console::open(&server, "#/indices/split/1/search").await;
    console.act("follow(shownIn('a', 'More like this')[1])").await;
    let text = console.text();
    assert_eq!(console.json("control('id').value"), "2");
    assert_eq!(console.json("rows().map(row => row[1])"), json!(["1", "3", "4"]), "{text}");
    for said in [
        "3 points in ",
        "Receipt",
        "snapshot",
        "finding what is current",
        "the unbuilt tail",
        "memory",
        "100 %",
        "curl -X POST 'http://tarn.test/api/v1/search/split/1'",
    ] {
        assert!(text.contains(said), "{said} in {text}");
    }
    assert!(console.json("document.getElementById('announce').textContent").as_str().unwrap().starts_with("3 points"));
    // The form keeps what else it says when the next point is followed.
    console.act("type('k: how many', '1')").await;
    console.act("follow(shownIn('a', 'More like this')[2])").await;
    assert_eq!(console.json("rows().length"), 1);
    console.act("press('Copy')").await;
    assert!(console.json("navigator.copied").as_str().unwrap().contains("\"k\": 1"));
}

#[tokio::test]
async fn a_point_in_the_address_that_is_none_is_shown_as_what_is_wrong() {
    let server = Server::with_points().await;
    let like = "%5B%7B%22key%22%3A%22id%22%2C%22value%22%3A%7B%22string%22%3A%7B%22toString%22%3A1%7D%7D%7D%5D";
    let console = Console::open(&server, &format!("#/indices/split/1/search?like={like}")).await;
    assert!(console.text().contains("The request cannot be answered"), "{}", console.text());
}

#[tokio::test]
async fn the_form_restricts_groups_and_says_what_is_to_be_mended() {
    let server = Server::with_points().await;
    let console = Console::open(&server, "#/indices/split/1/search").await;
    console.act("shownIn('label', 'A vector')[0].children[0].dispatch('change')").await;
    console.act("type('Coordinates', '1 2 3')").await;
    console.act("submit()").await;
    assert!(console.text().contains("The vector has 3 coordinates; the index wants 2"), "{}", console.text());
    console.act("type('Coordinates', '[0, 0]')").await;
    console.act(r#"type('Filter', '{"gt": {"key": "id", "value": 2}}')"#).await;
    console.act("type('Group by', 'name')").await;
    console.act("submit()").await;
    assert_eq!(console.json("shownIn('tr', '1 point').length"), 2, "{}", console.text());
    assert!(console.text().contains("2 points in 2 groups"));
    console.act(r#"type('Filter', '{"gt": {"key": "nothing", "value": 2}}')"#).await;
    console.act("submit()").await;
    assert!(console.json("main().querySelector('[role=alert]').textContent").as_str().unwrap().contains("nothing"));
    assert!(console.text().contains("The request cannot be answered"));
}

#[tokio::test]
async fn values_are_text_whatever_they_look_like() {
    let server = Server::new();
    let hostile = "<img src=x onerror=\"alert(1)\"></script><script>alert(2)</script>\n\"int64\":9007199254740999";
    let big = 9_007_199_254_740_993_i64;
    let source = json!({"vectorDimension": 2, "attributeValueTypes": {"id": "Int64", "t": "String", "<b>": "String"}, "permanentAttributes": ["id", "t"]});
    server.define("data-sources/%3Ci%3E/1", &source).await;
    let index = json!({"dataSourceId": {"name": "<i>", "version": "1"}, "indexAlgorithm": {"type": "FaissIndex.L2"}, "idAttributes": ["id", "t"], "splitAttributes": ["t"]});
    server.define("indices/%3Ci%3E/1", &index).await;
    let points: Vec<Value> = (0..3)
        .map(|n| {
            json!({"attributes": [{"key": "id", "value": {"int64": big + n}}, {"key": "t", "value": {"string": hostile}}, {"key": "<b>", "value": {"string": hostile}}],
                "vector": {"isSparse": false, "coordinates": [n, 0]}})
        })
        .collect();
    assert_eq!(server.post("/api/v1/upload/%3Ci%3E/1", &json!(points)).await.status, 200);
    let console = Console::open(&server, "").await;
    for tab in ["search", "points", "statistics", "structure"] {
        console.act(&format!("go('#/indices/%3Ci%3E/1/{tab}')")).await;
        assert!(console.text().contains("<i>"), "{tab}");
    }
    console.act("go('#/indices/%3Ci%3E/1/points')").await;
    assert!(console.text().contains(hostile));
    // A text of two lines, and a number that a float does not hold, come back as they were.
    console.act("follow(shownIn('a', 'More like this')[0])").await;
    let others: Vec<String> = (1..3).map(|n| (big + n).to_string()).collect();
    assert_eq!(console.json("rows().map(row => row[1])"), json!(others), "{}", console.text());
    assert_eq!(console.json("shownIn('script', '').length + shownIn('img', '').length + shownIn('b', '').length"), 0);
}

#[tokio::test]
async fn points_statistics_and_structure_are_shown() {
    let server = Server::with_points().await;
    let console = Console::open(&server, "#/indices/split/1/points").await;
    assert_eq!(console.json("rows().map(row => row[0])"), json!(["1", "2", "3", "4"]));
    console.act("press('A sample')").await;
    assert!(console.text().contains("Drawn from 4 points"), "{}", console.text());
    assert_eq!(console.json("rows().length"), 4);
    console.act("go('#/indices/split/1/statistics')").await;
    let text = console.text();
    assert!(text.contains(" read for this") && text.contains("Search around the centre"), "{text}");
    assert!(console.json("shownIn('rect', 'point').length").as_u64().unwrap() > 1);
    console.act("follow(only('a', 'Search around'))").await;
    assert_eq!(console.json("rows().length"), 4, "{}", console.text());
    console.act("go('#/indices/split/1/structure')").await;
    console.act("press('Measure the recall')").await;
    let text = console.text();
    assert!(text.contains("Recall at 10100 %"), "{text}");
    assert!(text.contains("\"splitAttributes\": ["), "{text}");
}

#[tokio::test]
async fn a_key_is_asked_for_used_and_kept_for_the_tab_alone() {
    let open = Server::with_points().await;
    let server = Server::over(&open.store, ApiSettings { auth: AuthMode::Always, ..ApiSettings::default() });
    let grants: Vec<Grant> = vec!["read:indices/nearest*".parse().unwrap()];
    let key = create_key(&server.store, "console", grants).await.unwrap().key;
    let console = Console::open(&server, "").await;
    assert!(console.text().contains("This server wants an API key"), "{}", console.text());
    assert_eq!(console.json("document.focused.id"), "key");
    let give = |key: &str| {
        format!(
            "document.getElementById('key').value = '{key}', document.getElementById('key-form').dispatch('submit')"
        )
    };
    console.act(&give("tarn_wrong")).await;
    assert!(console.text().contains("The API key is not accepted"), "{}", console.text());
    console.act(&give(&key)).await;
    assert!(console.text().contains("nearest") && !console.text().contains("split"), "{}", console.text());
    assert_eq!(console.json("window.sessionStorage.items"), json!({"tarn-api-key": key}));
    // The data source is closed to it: points say of what types attributes are.
    console.act("go('#/indices/nearest/1/search')").await;
    console.act("follow(shownIn('a', 'More like this')[0])").await;
    assert_eq!(console.json("rows().length"), 3, "{}", console.text());
    assert!(console.text().contains("X-Api-Key: $TARN_API_KEY") && !console.text().contains(&key));
    console.act("go('#/indices/split/1/search')").await;
    assert!(console.text().contains("read:indices/split/1"), "{}", console.text());
    console.act("document.getElementById('key-forget').dispatch('click')").await;
    assert_eq!(console.json("window.sessionStorage.items"), json!({}));
    assert!(console.text().contains("This server wants an API key"));
}

#[tokio::test]
async fn what_was_left_is_not_asked_on_nor_shown() {
    let server = Server::with_points().await;
    let console = Console::begun(&server, "#/indices/split/1/points").await;
    // Away before anything was answered.
    console.act("go('#/indices/nothing/1/search')").await;
    assert!(console.text().contains("does not exist"), "{}", console.text());
    assert!(!console.text().contains("More like this"), "{}", console.text());
}
