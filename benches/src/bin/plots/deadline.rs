//! How late answers are, with more clients than processors, each of which asks again as soon as it has its answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tarn_benches::{Chart, Corner, Result, Series, Server, Style, distribution};
use tarn_model::Score;
use tarn_search::{Ranking, SearchRequest};

use crate::{Arguments, K, World};

/// By how much an answer may miss its deadline.
const GRACE: Duration = Duration::from_millis(5);

/// What is searched for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// As the index does it every day.
    Everyday,
    /// Exactly.
    Exact,
    /// By a score that the index does not serve: every vector is read.
    Scan,
}

impl Work {
    const ALL: [Self; 3] = [Self::Everyday, Self::Exact, Self::Scan];

    fn name(self) -> &'static str {
        match self {
            Self::Everyday => "recall .95",
            Self::Exact => "exact",
            Self::Scan => "L1 scan",
        }
    }

    fn json(self) -> &'static str {
        match self {
            Self::Everyday => "",
            Self::Exact => r#""exact":true,"#,
            Self::Scan => r#""score":"QuickVectorDistance","#,
        }
    }

    fn of(self, request: SearchRequest) -> SearchRequest {
        match self {
            Self::Everyday => request,
            Self::Exact => SearchRequest { exact: true, ..request },
            Self::Scan => {
                let mut ranking = Ranking::default();
                ranking.score = Some(Score::QuickVectorDistance);
                SearchRequest { ranking: Some(ranking), ..request }
            }
        }
    }
}

/// One answer.
struct Outcome {
    took: Duration,
    coverage: f64,
    /// What the server says that it took of it, in milliseconds.
    server: Option<f64>,
}

pub(crate) async fn measure(world: &World, arguments: &Arguments) -> Result<()> {
    over_http(world, arguments)?;
    in_process(world, arguments).await
}

fn over_http(world: &World, arguments: &Arguments) -> Result<()> {
    let server = Arc::new(Server::start(&world.directory)?);
    let bodies: Vec<String> = (0..world.data.queries.rows().min(200))
        .map(|query| serde_json::to_string(world.data.queries.row(query)))
        .collect::<std::result::Result<_, _>>()?;
    let bodies = Arc::new(bodies);
    let mut lines = Vec::new();
    for work in Work::ALL {
        println!("\nover HTTP on loopback, {}, {} clients in another process", work.name(), arguments.clients);
        // Opens files, and says how long a search takes alone.
        let mut connection = server.connect()?;
        let body = |query: usize, deadline: Option<u64>| {
            let deadline = deadline.map_or_else(String::new, |ms| format!(r#""deadlineMs":{ms},"#));
            format!(
                r#"{{"k":{K},"consistency":"eventual",{}{deadline}"retrieveVectors":false,"queryVectors":[{{"isSparse":false,"coordinates":{}}}]}}"#,
                work.json(),
                bodies[query % bodies.len()]
            )
        };
        let mut alone = Vec::new();
        for query in 0..20 {
            let began = Instant::now();
            connection
                .send("POST", "/api/v1/search/bench/1", "application/json", body(query, None).as_bytes())?
                .expect(200)?;
            alone.push(began.elapsed());
        }
        alone.sort_unstable();
        println!("alone, without a deadline: {:.2} ms", ms(alone[alone.len() / 2]));
        header();
        for &deadline in &arguments.deadlines {
            let until = Instant::now() + Duration::from_secs_f64(arguments.seconds);
            let outcomes = std::thread::scope(|scope| {
                let clients: Vec<_> = (0..arguments.clients)
                    .map(|client| {
                        let (server, body) = (Arc::clone(&server), &body);
                        scope.spawn(move || {
                            let mut connection = server.connect()?;
                            let (mut outcomes, mut at) = (Vec::new(), client * 25);
                            while Instant::now() < until {
                                let body = body(at, Some(deadline));
                                at += 1;
                                let began = Instant::now();
                                let answer = connection.send(
                                    "POST",
                                    "/api/v1/search/bench/1",
                                    "application/json",
                                    body.as_bytes(),
                                )?;
                                let took = began.elapsed();
                                let coverage = answer.header("tarn-coverage").and_then(|text| text.parse().ok());
                                let timing = answer.header("server-timing").and_then(|text| text.rsplit_once("dur="));
                                let server = timing.and_then(|(_, ms)| ms.parse().ok());
                                answer.expect(200)?;
                                outcomes.push(Outcome { took, coverage: coverage.ok_or("no coverage")?, server });
                            }
                            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(outcomes)
                        })
                    })
                    .collect();
                clients
                    .into_iter()
                    .map(|client| client.join().map_err(|_| "a client panicked")?)
                    .collect::<Result<Vec<_>>>()
            })?;
            report(deadline, outcomes.into_iter().flatten().collect(), work, &mut lines);
        }
    }
    if let Ok(server) = Arc::try_unwrap(server) {
        server.stop()?;
    }
    draw(world, arguments, "deadline-http.svg", "Answers over HTTP", lines)
}

async fn in_process(world: &World, arguments: &Arguments) -> Result<()> {
    let engine = world.engine(2, 0.0)?;
    engine.warm(&world.one.id).await?;
    let mut lines = Vec::new();
    for work in Work::ALL {
        println!("\nin process, {}, {} clients, 2 threads", work.name(), arguments.clients);
        header();
        for &deadline in &arguments.deadlines {
            let until = Instant::now() + Duration::from_secs_f64(arguments.seconds);
            let clients = (0..arguments.clients).map(|client| {
                let (engine, id) = (engine.clone(), world.one.id.clone());
                let requests: Vec<SearchRequest> = (0..50).map(|at| work.of(world.request(client * 50 + at))).collect();
                tokio::spawn(async move {
                    let mut outcomes = Vec::new();
                    for request in requests.iter().cycle() {
                        if Instant::now() >= until {
                            break;
                        }
                        let request =
                            SearchRequest { deadline: Some(Duration::from_millis(deadline)), ..request.clone() };
                        let began = Instant::now();
                        let response = engine.search(&id, request).await?;
                        let (took, coverage) = (began.elapsed(), response.coverage);
                        outcomes.push(Outcome { took, coverage, server: None });
                    }
                    Ok::<_, Box<dyn std::error::Error + Send + Sync>>(outcomes)
                })
            });
            let mut outcomes = Vec::new();
            for client in clients.collect::<Vec<_>>() {
                outcomes.extend(client.await??);
            }
            report(deadline, outcomes, work, &mut lines);
        }
    }
    draw(world, arguments, "deadline-in-process.svg", "Answers in process", lines)
}

fn header() {
    println!(
        "deadline ms | answers | on time % | took ms: median, 99 %, 99.9 %, most | coverage: mean, least tenth, 0 % | 1 %"
    );
}

fn report(deadline: u64, mut outcomes: Vec<Outcome>, work: Work, lines: &mut Vec<(Work, u64, Vec<f64>)>) {
    let limit = Duration::from_millis(deadline);
    let count = outcomes.len() as f64;
    let share =
        |is: &dyn Fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| is(outcome)).count() as f64 / count * 100.0;
    let on_time = share(&|outcome| outcome.took <= limit + GRACE);
    let (none, whole) = (share(&|outcome| outcome.coverage == 0.0), share(&|outcome| outcome.coverage >= 1.0));
    let mean = outcomes.iter().map(|outcome| outcome.coverage).sum::<f64>() / count;
    outcomes.sort_by(|a, b| a.coverage.total_cmp(&b.coverage));
    let tenth = outcomes[outcomes.len() / 10].coverage;
    outcomes.sort_by_key(|outcome| outcome.took);
    let at = |q: f64| ms(outcomes[((outcomes.len() - 1) as f64 * q) as usize].took);
    println!(
        "{deadline:>11} | {count:>7} | {on_time:>9.2} | {:.2}, {:.2}, {:.2}, {:.2} | {mean:.3}, {tenth:.3}, {none:.1} | {whole:.1}",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    let mut server: Vec<f64> = outcomes.iter().filter_map(|outcome| outcome.server).collect();
    if !server.is_empty() {
        server.sort_by(f64::total_cmp);
        let at = |q: f64| server[((server.len() - 1) as f64 * q) as usize];
        println!(
            "            of it in the server, by its own clock: {:.2}, {:.2}, {:.2}, {:.2}",
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        );
    }
    lines.push((work, deadline, outcomes.iter().map(|outcome| ms(outcome.took) - deadline as f64).collect()));
}

fn draw(world: &World, arguments: &Arguments, file: &str, what: &str, lines: Vec<(Work, u64, Vec<f64>)>) -> Result<()> {
    // What is done long before its deadline shows nothing.
    let lines = lines.into_iter().filter(|(work, ..)| *work == Work::Scan);
    let series = lines
        .map(|(_, deadline, late)| Series::new(format!("deadline {deadline} ms"), Style::Line, distribution(late)));
    let chart = Chart {
        title: format!("{what}: {} clients, 2 cores, L1 scans of {}", arguments.clients, world.name),
        x_label: "time of the answer after its deadline, ms".to_owned(),
        y_label: "share of answers until then".to_owned(),
        x: (-10.0, 10.0),
        x_names: Vec::new(),
        y: (0.0, 1.0),
        series: series.collect(),
        marks: vec![(5.0, "99 % wanted by here".to_owned())],
        legend: Corner::MiddleRight,
    };
    chart.write(&world.plots.join(file))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
